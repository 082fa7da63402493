//! What is found on this machine, against what should stand: what an earlier run left, and what another program changed
//! or put back.

use super::{Footprint, FootprintError, Paths};
use crate::{Change, HostsFile, Journal, Nft, resolver};

impl Footprint {
    /// Lists what may stand from an earlier run without touching it, as far as the caller may see it: everybody reads
    /// the hosts file and the journal, root alone the redirects themselves.
    pub fn residue(paths: &Paths) -> Result<Vec<Change>, FootprintError> {
        let mut found = Journal::peek(&paths.journal)?;
        found.extend(
            seen(paths).into_iter().filter(|change| !found.contains(change)).collect::<Vec<_>>(),
        );
        found.reverse();
        Ok(found)
    }

    /// Lists what another program has changed of what should stand, or put back of what should not.
    pub fn disturbed(&mut self) -> Result<Vec<Change>, FootprintError> {
        let (entries, redirects) = self.plan()?;
        let mut disturbed = Vec::new();
        if !self.hosts.says(&entries)? {
            disturbed.push(Change::HostsSection { path: self.hosts.path().to_owned() });
        }
        // Without a redirect of ours the ruleset is others' affair, and looking would cost a process each time.
        let is_redirected = !redirects.is_empty() && self.can_redirect != Some(false);
        if is_redirected && !self.nft.stands(&redirects)? {
            disturbed.push(Change::RedirectTable);
        }
        if self.lacks_link() {
            disturbed.push(Change::SplitDns);
        }
        Ok(disturbed)
    }

    /// Makes the machine be what all users together want, whatever another program did to it.
    pub fn put_again(&mut self) -> Result<(), FootprintError> {
        for change in self.disturbed()? {
            self.journal.about_to(&change)?;
        }
        self.settle()?;
        self.split_dns(self.is_split)
    }
}

/// Lists what can be seen of ours on this machine. What cannot be looked at is left to the journal.
pub(super) fn seen(paths: &Paths) -> Vec<Change> {
    let mut seen = Vec::new();
    if matches!(Nft::new(paths.nft.clone()).table(), Ok(Some(_))) {
        seen.push(Change::RedirectTable);
    }
    if matches!(HostsFile::new(paths.hosts.clone()).has_section(), Ok(true)) {
        seen.push(Change::HostsSection { path: paths.hosts.clone() });
    }
    if resolver::stands() {
        seen.push(Change::SplitDns);
    }
    seen
}

#[cfg(test)]
mod tests {
    use std::fs;

    use fairlead_model::TeamspaceId;

    use super::{
        super::machine::{Machine, wanted},
        *,
    };

    #[test]
    fn a_run_that_was_killed_is_cleaned_up_by_the_next() {
        let machine = Machine::new();
        let mut killed = machine.footprint();
        killed.set(1000, wanted(TeamspaceId::generate(), 40_001, &["shop/cart"])).expect("set");
        drop(killed);
        assert_eq!(Footprint::residue(&machine.paths).expect("read").len(), 2);
        let for_users = Paths {
            journal: "/nonexistent/journal".into(),
            nft: "/nonexistent/nft".into(),
            ..machine.paths.clone()
        };
        let visible = Footprint::residue(&for_users).expect("read");
        assert_eq!(visible, [Change::HostsSection { path: machine.paths.hosts.clone() }]);
        drop(machine.footprint());
        machine.is_clean();
        assert_eq!(Footprint::residue(&machine.paths).expect("read"), []);
    }

    #[test]
    fn what_stands_without_a_journal_is_found_all_the_same() {
        let machine = Machine::new();
        let mut killed = machine.footprint();
        killed.set(1000, wanted(TeamspaceId::generate(), 40_001, &["shop/cart"])).expect("set");
        drop(killed);
        fs::remove_file(&machine.paths.journal).expect("removed");
        assert_eq!(Footprint::residue(&machine.paths).expect("read").len(), 2);
        drop(machine.footprint());
        machine.is_clean();
    }

    #[test]
    fn what_another_program_changed_is_seen_and_put_again() {
        let machine = Machine::new();
        let mut footprint = machine.footprint();
        let services = ["shop/cart", "shop/pay"];
        footprint.set(1000, wanted(TeamspaceId::generate(), 40_001, &services)).expect("set");
        assert_eq!(footprint.disturbed().expect("looked"), []);
        let whole = machine.read("hosts");
        let without_pay =
            whole.lines().filter(|line| !line.contains("pay")).collect::<Vec<_>>().join("\n");
        fs::write(machine.folder.path().join("hosts"), without_pay + "\n").expect("written");
        fs::write(machine.folder.path().join("rules"), "").expect("flushed");
        let hosts = Change::HostsSection { path: machine.paths.hosts.clone() };
        assert_eq!(footprint.disturbed().expect("looked"), [hosts.clone(), Change::RedirectTable]);
        footprint.put_again().expect("put");
        assert_eq!(footprint.disturbed().expect("looked"), []);
        assert_eq!(machine.read("hosts"), whole);

        footprint.clear(1000).expect("cleared");
        fs::write(machine.folder.path().join("hosts"), whole).expect("restored by another");
        assert_eq!(footprint.disturbed().expect("looked"), [hosts]);
        footprint.put_again().expect("taken back");
        machine.is_clean();
    }
}
