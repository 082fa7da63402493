//! Whether systemd-resolved asks the laptop's DNS server for names of the cluster. How it is told is `resolver.rs`.

use super::{Footprint, FootprintError};
use crate::Change;

impl Footprint {
    /// Has systemd-resolved ask the laptop's DNS server for names of the cluster, or ends that. Where there is no
    /// resolved nothing happens.
    pub fn split_dns(&mut self, is_wanted: bool) -> Result<(), FootprintError> {
        let may_be = self.split_refusal.is_none() && self.resolver.is_there();
        self.is_split = is_wanted && may_be && !self.users.is_empty();
        if !self.is_split {
            return self.unsplit();
        }
        if self.resolver.stands() {
            return Ok(());
        }
        self.journal.about_to(&Change::SplitDns)?;
        let Err(error) = self.resolver.put() else { return Ok(()) };
        self.is_split = false;
        self.split_refusal = Some(error.to_string());
        // The first failure is what has to be said; the journal keeps what could not be taken back.
        drop(self.unsplit());
        Err(error.into())
    }

    /// Says whether systemd-resolved asks the laptop's DNS server.
    pub const fn is_split(&self) -> bool {
        self.is_split
    }

    /// Says whether another program has deleted the link that systemd-resolved asks by.
    pub fn lacks_link(&self) -> bool {
        self.is_split && !self.resolver.stands()
    }

    /// Returns why systemd-resolved could not be told.
    pub fn split_refusal(&self) -> Option<&str> {
        self.split_refusal.as_deref()
    }

    fn unsplit(&mut self) -> Result<(), FootprintError> {
        if self.journal.backwards().any(|change| *change == Change::SplitDns) {
            self.resolver.remove()?;
            self.journal.undone(&Change::SplitDns)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use fairlead_model::TeamspaceId;

    use super::{
        super::machine::{Machine, wanted},
        *,
    };

    #[test]
    fn what_resolved_is_told_is_journalled_and_goes_with_the_last_user() {
        let machine = Machine::new();
        machine.has_resolved("exit 0");
        let mut footprint = machine.footprint();
        footprint.split_dns(true).expect("nobody wants names");
        assert!(!footprint.is_split());
        footprint.set(1000, wanted(TeamspaceId::generate(), 40_001, &["shop/cart"])).expect("set");
        footprint.split_dns(true).expect("told");
        assert!(footprint.is_split() && footprint.standing().contains(&Change::SplitDns));
        footprint.split_dns(false).expect("ended");
        assert!(!footprint.is_split() && !footprint.standing().contains(&Change::SplitDns));
        footprint.split_dns(true).expect("told again");
        footprint.clear(1000).expect("cleared");
        assert!(!footprint.is_split(), "nothing puts it back");
        machine.is_clean();
    }

    #[test]
    fn a_resolved_that_refuses_costs_nobody_their_names() {
        let machine = Machine::new();
        machine.has_resolved("echo 'Access denied' >&2; exit 1");
        let mut footprint = machine.footprint();
        footprint.set(1000, wanted(TeamspaceId::generate(), 40_001, &["shop/cart"])).expect("set");
        let said = footprint.split_dns(true).expect_err("refused").to_string();
        assert!(said.contains("Access denied"), "{said}");
        footprint.split_dns(true).expect("it is not told again");
        assert_eq!(footprint.split_refusal(), Some(&*said));
        assert!(!footprint.is_split() && !footprint.standing().contains(&Change::SplitDns));
        assert!(machine.read("hosts").contains("cart.shop"));
    }

    #[test]
    fn without_resolved_nothing_is_changed_for_it() {
        let machine = Machine::new();
        let mut footprint = machine.footprint();
        footprint.set(1000, wanted(TeamspaceId::generate(), 40_001, &["shop/cart"])).expect("set");
        footprint.split_dns(true).expect("nothing to do");
        assert!(!footprint.is_split() && footprint.standing().len() == 2);
    }
}
