//! What should stand for all users together: which names lead to which address, and what is redirected. Nothing is
//! changed here but the list of given addresses.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddrV4},
};

use fairlead_model::{Callee, Port, Protocol};
use laptop_ipc::supervisor::{Reached, cluster_names};

use super::{Footprint, FootprintError};
use crate::{HostEntry, Redirect, redirect};

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

impl Footprint {
    /// Says what should stand for all users together.
    pub(super) fn plan(&mut self) -> Result<(Vec<HostEntry>, Vec<Redirect>), FootprintError> {
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

    /// Returns the address of each service, in order, whether it stands or not.
    pub fn addresses_of(&mut self, services: &[Reached]) -> Result<Vec<Ipv4Addr>, FootprintError> {
        let keys = services.iter().map(|s| (s.teamspace, s.callee.clone()));
        let found = keys.map(|key| self.addresses.of(&key)).collect::<Result<_, _>>()?;
        self.addresses.save()?;
        Ok(found)
    }
}

/// Returns the line of a service or a pod where it has the cluster's names, or of a host outside it.
#[must_use]
pub fn entry_of(callee: &Callee, is_home: bool, address: Ipv4Addr) -> HostEntry {
    HostEntry::new(address, cluster_names(callee, is_home)).expect("made of DNS labels")
}

#[cfg(test)]
mod tests {
    use fairlead_model::{HostName, TeamspaceId};

    use super::{
        super::machine::{Machine, wanted},
        *,
    };

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
}
