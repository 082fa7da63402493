//! The whole footprint of all users of this machine, as one desired state.
//!
//! Applying, changing and cleaning up are the same act: say what should stand (`plan.rs`), journal it, put it there.
//! With nothing wanted the machine is as it was. What others did to it is seen in `found.rs`; what systemd-resolved is
//! told goes besides, in `split.rs`.

mod found;
#[cfg(test)]
mod machine;
mod plan;
mod split;

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddrV4},
    path::PathBuf,
};

pub use self::plan::{Wanted, entry_of};
use crate::{
    AddressError, Addresses, Change, Given, HostsError, HostsFile, Journal, JournalError,
    ListenError, Listeners, Nft, Redirect, RedirectError, Resolver, ResolverError, redirect,
};

#[derive(Debug, thiserror::Error)]
pub enum FootprintError {
    #[error(transparent)]
    Hosts(#[from] HostsError),
    #[error(transparent)]
    Redirect(#[from] RedirectError),
    #[error(transparent)]
    Resolver(#[from] ResolverError),
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Addresses(#[from] AddressError),
}

/// Where everything lies that is ours or that we change.
#[derive(Debug, Clone)]
pub struct Paths {
    pub hosts: PathBuf,
    pub nft: PathBuf,
    pub journal: PathBuf,
    pub addresses: PathBuf,
    pub resolver: Resolver,
}

/// What stands on this machine, for every user.
#[derive(Debug)]
pub struct Footprint {
    hosts: HostsFile,
    nft: Nft,
    journal: Journal,
    addresses: Addresses,
    users: BTreeMap<u32, Wanted>,
    /// `None` as long as nobody has asked the kernel whether it can redirect.
    can_redirect: Option<bool>,
    listeners: Listeners,
    resolver: Resolver,
    /// systemd-resolved is to ask the laptop's DNS server.
    is_split: bool,
    /// Why it could not be told. It is not asked again before nothing stands: each time would make a link.
    split_refusal: Option<String>,
    /// What stands is what `users` want; not after a step that failed.
    is_settled: bool,
}

impl Footprint {
    /// Opens journal and addresses, and takes back whatever an earlier run left.
    pub fn open(paths: &Paths) -> Result<Self, FootprintError> {
        let mut footprint = Self {
            hosts: HostsFile::new(paths.hosts.clone()),
            nft: Nft::new(paths.nft.clone()),
            journal: Journal::open(&paths.journal)?,
            addresses: Addresses::load(&paths.addresses)?,
            users: BTreeMap::new(),
            can_redirect: None,
            listeners: Listeners::default(),
            resolver: paths.resolver.clone(),
            is_split: false,
            split_refusal: None,
            is_settled: false,
        };
        // The journal may be gone, and another program may have put back what it remembered.
        for change in found::seen(paths) {
            footprint.journal.about_to(&change)?;
        }
        footprint.settle()?;
        Ok(footprint)
    }

    /// Makes a user's part be what is wanted and returns each service's address, in order.
    ///
    /// When a step fails the user has what they had before, and so has everybody else.
    pub fn set(&mut self, uid: u32, wanted: Wanted) -> Result<Vec<Ipv4Addr>, FootprintError> {
        let addresses = self.addresses_of(&wanted.services)?;
        self.can_redirect()?;
        let before = self.users.insert(uid, wanted);
        self.put_or_put_back(uid, before)?;
        Ok(addresses)
    }

    fn put_or_put_back(&mut self, uid: u32, before: Option<Wanted>) -> Result<(), FootprintError> {
        let Err(error) = self.settle() else { return Ok(()) };
        match before {
            Some(before) => self.users.insert(uid, before),
            None => self.users.remove(&uid),
        };
        // The first failure is what the developer must hear, whatever this one says.
        drop(self.settle());
        Err(error)
    }

    /// Removes a user's part, and whatever could not be removed when it should have been.
    pub fn clear(&mut self, uid: u32) -> Result<(), FootprintError> {
        let was_there = self.users.remove(&uid).is_some();
        if was_there || !self.is_settled { self.settle() } else { Ok(()) }
    }

    /// Removes everything of everybody.
    pub fn clear_all(&mut self) -> Result<(), FootprintError> {
        self.users.clear();
        self.settle()
    }

    /// Makes the machine be what all users together want.
    fn settle(&mut self) -> Result<(), FootprintError> {
        self.is_settled = false;
        self.put()?;
        self.is_settled = true;
        Ok(())
    }

    fn put(&mut self) -> Result<(), FootprintError> {
        let (entries, redirects) = self.plan()?;
        if redirects.is_empty() {
            self.is_split = false;
            self.split_refusal = None;
            self.listen(&[])?;
            return self.take_back();
        }
        // First: a name must not lead to an address that nobody of us listens on.
        if self.can_redirect == Some(false) {
            self.listen(&redirects)?;
        } else {
            self.journal.about_to(&Change::RedirectTable)?;
            self.nft.replace(&redirects)?;
        }
        let section = Change::HostsSection { path: self.hosts.path().to_owned() };
        self.journal.about_to(&section)?;
        self.hosts.write_section(&entries)?;
        Ok(())
    }

    /// Listens where the kernel would redirect.
    fn listen(&mut self, redirects: &[Redirect]) -> Result<(), FootprintError> {
        let of = |r: &Redirect| -> Vec<(u32, SocketAddrV4)> {
            let services = r.services.iter().filter(|service| **service != redirect::canary());
            services.map(|service| (r.uid, *service)).collect()
        };
        let wanted = redirects.iter().flat_map(of).collect();
        let may_remap = self.users.iter().filter(|(_, user)| user.may_remap).map(|(uid, _)| *uid);
        Ok(self.listeners.follow(&wanted, &may_remap.collect())?)
    }

    /// Replays the journal backwards. Each step is struck out when it is done, so a failure is tried again.
    fn take_back(&mut self) -> Result<(), FootprintError> {
        let mut first_failure = None;
        for change in self.journal.backwards().cloned().collect::<Vec<_>>() {
            let undone = match &change {
                Change::HostsSection { path } => {
                    HostsFile::new(path.clone()).remove_section().map_err(FootprintError::from)
                }
                Change::RedirectTable => self.nft.remove().map_err(FootprintError::from),
                Change::SplitDns => self.resolver.remove().map_err(FootprintError::from),
            };
            match undone {
                Ok(()) => self.journal.undone(&change)?,
                Err(error) => first_failure = first_failure.or(Some(error)),
            }
        }
        first_failure.map_or(Ok(()), Err)
    }

    /// Says whether the kernel redirects; where it does not, each port is listened on.
    pub fn can_redirect(&mut self) -> Result<bool, FootprintError> {
        // Asked only while nothing stands: what stands must not change its way.
        if self.users.is_empty() || self.can_redirect.is_none() {
            self.can_redirect = Some(self.nft.can_redirect()?);
        }
        Ok(self.can_redirect != Some(false))
    }

    /// Returns a user's listeners, where connections cannot be redirected.
    pub fn listeners_of(&self, uid: u32) -> Option<impl Iterator<Item = Given<'_>>> {
        (self.can_redirect == Some(false)).then(|| self.listeners.of(uid))
    }

    /// Lists what stands for a user, the latest first: what they want, and what nobody wants and is still there.
    pub fn standing_for(&self, uid: u32) -> Vec<Change> {
        if self.users.contains_key(&uid) || !self.is_settled { self.standing() } else { Vec::new() }
    }

    /// Lists what stands for anybody, the latest first.
    pub fn standing(&self) -> Vec<Change> {
        self.journal.backwards().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use fairlead_model::TeamspaceId;

    use super::{
        machine::{Machine, PLAIN, wanted},
        *,
    };

    #[test]
    fn what_is_set_stands_and_what_is_cleared_leaves_nothing() {
        let machine = Machine::new();
        let mut footprint = machine.footprint();
        let given = footprint
            .set(1000, wanted(TeamspaceId::generate(), 40_001, &["shop/cart"]))
            .expect("set");
        let line = format!(
            "{} cart cart.shop cart.shop.svc cart.shop.svc.cluster.local # fairlead\n",
            given[0]
        );
        assert!(machine.read("hosts").contains(&line), "{}", machine.read("hosts"));
        assert!(machine.read("rules").contains(&format!("{} . 80", given[0])));
        footprint.clear(1000).expect("cleared");
        machine.is_clean();
    }

    #[test]
    fn where_nothing_can_be_redirected_there_are_listeners_and_they_leave_no_residue() {
        let machine = Machine::new();
        fs::remove_file(&machine.paths.nft).expect("removed");
        let mut footprint = machine.footprint();
        let mut ada = wanted(TeamspaceId::generate(), 40_001, &["shop/cart"]);
        ada.services[0].ports = vec!["28093".parse().expect("a port")];
        let given = footprint.set(1000, ada).expect("set");
        let on: Vec<_> =
            footprint.listeners_of(1000).expect("no redirects").map(|given| given.on).collect();
        assert_eq!(on, [SocketAddrV4::new(given[0], 28_093)]);
        std::net::TcpStream::connect(on[0]).expect("it listens");
        assert!(machine.read("hosts").contains("cart.shop"));
        assert_eq!(footprint.standing().len(), 1, "a listener needs no journal");
        assert_eq!(footprint.disturbed().expect("looked"), []);
        footprint.clear(1000).expect("cleared");
        std::net::TcpStream::connect(on[0]).expect_err("nobody listens");
        assert_eq!(
            (machine.read("hosts"), machine.read("residue.jsonl")),
            (PLAIN.into(), String::new())
        );
    }

    #[test]
    fn one_user_leaves_and_the_other_stays() {
        let machine = Machine::new();
        let teamspace = TeamspaceId::generate();
        let mut footprint = machine.footprint();
        footprint.set(1000, wanted(teamspace, 40_001, &["shop/cart"])).expect("set");
        footprint.set(1001, wanted(teamspace, 40_002, &["shop/cart", "shop/pay"])).expect("set");
        footprint.clear(1001).expect("cleared");
        assert!(
            machine.read("hosts").contains("cart.shop") && !machine.read("hosts").contains("pay")
        );
        assert!(machine.read("rules").contains("1000") && !machine.read("rules").contains("1001"));
        footprint.clear(1000).expect("cleared");
        machine.is_clean();
    }

    #[test]
    fn a_refused_redirect_changes_no_name() {
        let machine = Machine::new();
        let mut footprint = machine.footprint();
        machine.nft_refuses(true);
        let error = footprint
            .set(1000, wanted(TeamspaceId::generate(), 40_001, &["shop/cart"]))
            .expect_err("refused");
        assert!(matches!(error, FootprintError::Redirect(_)), "{error:?}");
        assert_eq!(machine.read("hosts"), PLAIN);
        machine.nft_refuses(false);
        footprint.clear_all().expect("cleared");
        machine.is_clean();
    }

    #[test]
    fn hosts_that_cannot_be_written_take_the_redirect_back() {
        let machine = Machine::new();
        let mut footprint = machine.footprint();
        fs::remove_file(machine.folder.path().join("hosts")).expect("removed");
        footprint
            .set(1000, wanted(TeamspaceId::generate(), 40_001, &["shop/cart"]))
            .expect_err("no hosts file");
        assert_eq!(machine.read("rules"), crate::ruleset(&[]));
    }

    #[test]
    fn what_could_not_be_removed_is_tried_again_by_whoever_asks() {
        let machine = Machine::new();
        let mut footprint = machine.footprint();
        footprint.set(1000, wanted(TeamspaceId::generate(), 40_001, &["shop/cart"])).expect("set");
        machine.nft_refuses(true);
        footprint.clear(1000).expect_err("refused");
        assert_eq!(footprint.standing_for(1000), [Change::RedirectTable], "the user still has it");
        footprint.clear(1000).expect_err("refused again, not forgotten");
        machine.nft_refuses(false);
        footprint.clear(1000).expect("taken back");
        assert_eq!(footprint.standing_for(1000), []);
        machine.is_clean();
    }

    #[test]
    fn what_another_user_wants_is_not_listed_as_mine() {
        let machine = Machine::new();
        let mut footprint = machine.footprint();
        footprint.set(1000, wanted(TeamspaceId::generate(), 40_001, &["shop/cart"])).expect("set");
        assert_eq!(footprint.standing_for(1000).len(), 2);
        assert_eq!(footprint.standing_for(1001), []);
        assert_eq!(footprint.standing().len(), 2);
    }
}
