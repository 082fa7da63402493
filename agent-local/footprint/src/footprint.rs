//! The whole footprint of all users of this machine, as one desired state.
//!
//! Applying, changing and cleaning up are the same act: say what should stand, journal it, put it there. With
//! nothing wanted the machine is as it was.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddrV4},
    path::PathBuf,
};

use fairlead_model::{Callee, Port, Protocol};
use laptop_ipc::supervisor::{Reached, cluster_names};

use crate::{
    AddressError, Addresses, Change, Given, HostEntry, HostsError, HostsFile, Journal,
    JournalError, ListenError, Listeners, Nft, Redirect, RedirectError, Resolver, ResolverError,
    redirect, resolver,
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

/// What one user wants, and the listener that takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    pub listener: Port,
    pub services: Vec<Reached>,
    /// A port that is taken may be another one, where connections cannot be redirected.
    pub may_remap: bool,
    /// What applications send datagrams to, and the port of the socket that takes them.
    pub datagrams: Vec<(SocketAddrV4, Port)>,
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
        for change in seen(paths) {
            footprint.journal.about_to(&change)?;
        }
        footprint.settle()?;
        Ok(footprint)
    }

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

    /// Lists what stands for a user, the latest first: what they want, and what nobody wants and is still there.
    pub fn standing_for(&self, uid: u32) -> Vec<Change> {
        if self.users.contains_key(&uid) || !self.is_settled { self.standing() } else { Vec::new() }
    }

    /// Lists what stands for anybody, the latest first.
    pub fn standing(&self) -> Vec<Change> {
        self.journal.backwards().cloned().collect()
    }

    /// Returns the address of each service, in order, whether it stands or not.
    pub fn addresses_of(&mut self, services: &[Reached]) -> Result<Vec<Ipv4Addr>, FootprintError> {
        let keys = services.iter().map(|s| (s.teamspace, s.callee.clone()));
        let found = keys.map(|key| self.addresses.of(&key)).collect::<Result<_, _>>()?;
        self.addresses.save()?;
        Ok(found)
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

    /// Says what should stand for all users together.
    fn plan(&mut self) -> Result<(Vec<HostEntry>, Vec<Redirect>), FootprintError> {
        let mut names: BTreeMap<Ipv4Addr, Vec<String>> = BTreeMap::new();
        let mut redirects = Vec::new();
        for (uid, wanted) in &self.users {
            let mut pairs = BTreeSet::new();
            for reached in &wanted.services {
                let key = (reached.teamspace, reached.callee.clone());
                let address = self.addresses.of(&key)?;
                let tcp = reached.ports.iter().filter(|port| port.protocol == Protocol::Tcp);
                pairs.extend(tcp.map(|port| SocketAddrV4::new(address, port.port.get())));
                let known = names.entry(address).or_default();
                let new = reached.names().into_iter().filter(|name| !known.contains(name));
                let new: Vec<_> = new.collect();
                known.extend(new);
            }
            let datagrams = wanted.datagrams.clone();
            if !pairs.is_empty() || !datagrams.is_empty() {
                pairs.insert(redirect::canary());
                let services = pairs.into_iter().collect();
                let listener = wanted.listener;
                redirects.push(Redirect { uid: *uid, listener, services, datagrams });
            }
        }
        let entries = names
            .into_iter()
            .map(|(address, names)| HostEntry::new(address, names).expect("made of DNS labels"));
        Ok((entries.collect(), redirects))
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
}

/// Lists what can be seen of ours on this machine. What cannot be looked at is left to the journal.
fn seen(paths: &Paths) -> Vec<Change> {
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

/// Returns the line of a service or a pod where it has the cluster's names, or of a host outside it.
#[must_use]
pub fn entry_of(callee: &Callee, is_home: bool, address: Ipv4Addr) -> HostEntry {
    HostEntry::new(address, cluster_names(callee, is_home)).expect("made of DNS labels")
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use fairlead_model::{HostName, ServiceRef, TeamspaceId};

    use super::*;

    const PLAIN: &str = "127.0.0.1 localhost\n";

    /// A machine in a folder; its `nft` keeps the last ruleset, or refuses while a file `refuse` stands there.
    struct Machine {
        folder: tempfile::TempDir,
        paths: Paths,
    }

    impl Machine {
        fn new() -> Self {
            let folder = tempfile::tempdir().expect("folder");
            let at = |name: &str| folder.path().join(name);
            fs::write(at("hosts"), PLAIN).expect("written");
            let here = folder.path().display();
            let nft = format!(
                "#!/bin/sh\ncase $1 in -n)\n\
                   /bin/grep -q skuid {here}/rules 2>/dev/null && exec /bin/cat {here}/rules\n\
                   echo 'No such file' >&2; exit 1;;\n\
                 -c) exec /bin/cat > /dev/null;;\n\
                 esac\ntest ! -e {here}/refuse && exec /bin/cat > {here}/rules\n"
            );
            fs::write(at("nft"), nft).expect("written");
            fs::set_permissions(at("nft"), fs::Permissions::from_mode(0o755)).expect("mode");
            let paths = Paths {
                hosts: at("hosts"),
                nft: at("nft"),
                journal: at("residue.jsonl"),
                addresses: at("addresses.json"),
                resolver: Resolver {
                    ip: at("ip"),
                    resolvectl: at("resolvectl"),
                    resolved_dir: at("resolve"),
                },
            };
            Self { folder, paths }
        }

        fn footprint(&self) -> Footprint {
            Footprint::open(&self.paths).expect("opens")
        }

        fn read(&self, name: &str) -> String {
            fs::read_to_string(self.folder.path().join(name)).expect("text")
        }

        /// Has a resolved, whose `resolvectl` does this.
        fn has_resolved(&self, does: &str) {
            fs::create_dir(self.folder.path().join("resolve")).expect("made");
            fs::write(self.folder.path().join("resolve/stub-resolv.conf"), "").expect("written");
            for (name, does) in [("ip", "exit 0"), ("resolvectl", does)] {
                let path = self.folder.path().join(name);
                fs::write(&path, format!("#!/bin/sh\n{does}\n")).expect("written");
                fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("mode");
            }
        }

        fn nft_refuses(&self, refuses: bool) {
            let path = self.folder.path().join("refuse");
            if refuses { fs::write(path, "") } else { fs::remove_file(path) }.expect("done");
        }

        fn is_clean(&self) {
            assert_eq!(self.read("hosts"), PLAIN);
            assert_eq!(self.read("rules"), crate::ruleset(&[]));
            assert_eq!(self.read("residue.jsonl"), "");
        }
    }

    fn wanted(teamspace: TeamspaceId, listener: u16, services: &[&str]) -> Wanted {
        let services = services.iter().map(|service| Reached {
            teamspace,
            callee: service.parse::<ServiceRef>().expect("valid").into(),
            ports: vec!["80".parse().expect("a port")],
            is_home: true,
            beside: None,
        });
        Wanted {
            listener: Port::new(listener).expect("not 0"),
            services: services.collect(),
            may_remap: false,
            datagrams: Vec::new(),
        }
    }

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
    fn a_teamspace_beside_another_one_has_an_address_and_names_of_its_own() {
        let machine = Machine::new();
        let mut footprint = machine.footprint();
        let mut both = wanted(TeamspaceId::generate(), 40_001, &["shop/cart"]);
        let mut beside = wanted(TeamspaceId::generate(), 40_001, &["shop/cart"]).services;
        beside[0].beside = Some("staging".parse().expect("valid"));
        both.services.extend(beside);
        let given = footprint.set(1000, both).expect("set");
        assert_ne!(given[0], given[1]);
        let hosts = machine.read("hosts");
        let line = format!("\n{} cart.shop.staging.fairlead # fairlead\n", given[1]);
        assert!(hosts.contains(&line), "{hosts}");
        assert_eq!(hosts.matches(" cart.shop ").count(), 1, "{hosts}");
    }

    #[test]
    fn a_pod_has_names_and_an_address_of_its_own() {
        let machine = Machine::new();
        let mut footprint = machine.footprint();
        let mut wanted = wanted(TeamspaceId::generate(), 40_001, &["shop/db", "shop/db"]);
        let db = "shop/db".parse().expect("valid");
        wanted.services[1].callee = Callee::pod_of(db, "db-0".parse().expect("valid"));
        let given = footprint.set(1000, wanted).expect("set");
        assert_ne!(given[0], given[1]);
        let names = "db-0.db db-0.db.shop db-0.db.shop.svc db-0.db.shop.svc.cluster.local";
        let line = format!("{} {names} # fairlead\n", given[1]);
        assert!(machine.read("hosts").contains(&line), "{}", machine.read("hosts"));
        assert!(machine.read("rules").contains(&format!("{} . 80", given[1])));
    }

    #[test]
    fn a_host_outside_the_cluster_has_its_own_name_and_an_address_of_ours() {
        let machine = Machine::new();
        let mut footprint = machine.footprint();
        let mut wanted = wanted(TeamspaceId::generate(), 40_001, &["shop/db"]);
        let host: HostName = "db.example.net".parse().expect("valid");
        (wanted.services[0].callee, wanted.services[0].is_home) = (host.into(), false);
        let given = footprint.set(1000, wanted).expect("set");
        let line = format!("\n{} db.example.net # fairlead\n", given[0]);
        assert!(machine.read("hosts").contains(&line), "{}", machine.read("hosts"));
        assert!(machine.read("rules").contains(&format!("{} . 80", given[0])));
    }

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
