//! What the names of consumed services lead to: pure, made anew whenever what is consumed changes.

use std::{
    collections::{HashMap, HashSet},
    net::Ipv4Addr,
};

use fairlead_model::{Namespace, ServiceRef};
use fairlead_wire::resolve::ClusterName;
use laptop_ipc::supervisor::{CLUSTER_DOMAIN, DOMAIN, Reached};

/// The names that are ours to answer.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Zone {
    /// By the name in the cluster: `db-0.db.shop`.
    addresses: HashMap<String, Ipv4Addr>,
    /// Of teamspaces beside the one that has the cluster's names, by the name in full.
    beside: HashMap<String, Ipv4Addr>,
    /// Outside the cluster.
    hosts: HashMap<String, Ipv4Addr>,
    /// In full.
    names: HashMap<Ipv4Addr, String>,
    services: HashSet<ServiceRef>,
    namespaces: HashSet<Namespace>,
}

/// What a name is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    /// Somebody who is consumed; `ClusterName` is what the cluster's DNS may be asked about.
    Callee(Ipv4Addr, ClusterName),
    /// Somebody of another teamspace, or outside the cluster: an address is known, and nothing else.
    Beside(Ipv4Addr),
    /// Below a Service that is consumed, as `_sql._tcp.db.shop` is.
    Below(ClusterName),
    /// A name on the way to others: it is there, and has no records.
    Between,
    /// Ours, and nothing is there.
    Nothing,
    /// Not ours.
    Elsewhere,
}

impl Zone {
    pub fn of<'r>(placed: impl Iterator<Item = (&'r Reached, Ipv4Addr)>) -> Self {
        let mut zone = Self::default();
        for (reached, address) in placed {
            zone.names.entry(address).or_insert_with(|| reached.full_name());
            if reached.beside.is_some() {
                zone.beside.insert(reached.full_name(), address);
                continue;
            }
            let Some(service) = reached.callee.service() else {
                zone.hosts.insert(reached.full_name(), address);
                continue;
            };
            zone.addresses.entry(reached.short_name()).or_insert(address);
            zone.namespaces.insert(service.namespace.clone());
            zone.services.insert(service.clone());
        }
        zone
    }

    /// Finds a name as it is asked: in whatever case, with or without the dot at its end.
    pub(crate) fn find(&self, asked: &str) -> Found {
        let asked = asked.trim_end_matches('.').to_ascii_lowercase();
        let below = |name: &str, domain: &str| {
            name.strip_suffix(domain).and_then(|rest| rest.strip_suffix('.')).map(str::to_owned)
        };
        if let Some(address) = self.hosts.get(&asked) {
            return Found::Beside(*address);
        }
        if asked == CLUSTER_DOMAIN || asked == "svc" || asked == DOMAIN {
            return Found::Between;
        }
        if below(&asked, DOMAIN).is_some() {
            return self.find_beside(&asked);
        }
        let in_cluster = match below(&asked, CLUSTER_DOMAIN) {
            Some(rest) if rest == "svc" => return Found::Between,
            Some(rest) => match below(&rest, "svc") {
                Some(rest) => rest,
                None => return Found::Nothing,
            },
            None => match below(&asked, "svc") {
                Some(rest) => rest,
                // `cart.shop` is ours where `shop` is a namespace that is consumed.
                None if self.is_in_namespace(&asked) => asked,
                None => return Found::Elsewhere,
            },
        };
        self.find_in_cluster(&in_cluster)
    }

    /// Returns the name that leads to an address of ours, in full.
    pub(crate) fn name_of(&self, address: Ipv4Addr) -> Option<String> {
        self.names.get(&address).map(|name| format!("{name}."))
    }

    fn find_beside(&self, asked: &str) -> Found {
        let is_above =
            |name: &String| name.strip_suffix(asked).is_some_and(|rest| rest.ends_with('.'));
        match self.beside.get(asked) {
            Some(address) => Found::Beside(*address),
            None if self.beside.keys().any(is_above) => Found::Between,
            None => Found::Nothing,
        }
    }

    fn is_in_namespace(&self, name: &str) -> bool {
        let last = name.rsplit('.').next().and_then(|label| Namespace::parse(label).ok());
        last.is_some_and(|label| self.namespaces.contains(&label))
    }

    fn find_in_cluster(&self, name: &str) -> Found {
        if !name.contains('.') {
            return if self.is_in_namespace(name) { Found::Between } else { Found::Nothing };
        }
        let Ok(cluster_name) = name.parse::<ClusterName>() else { return Found::Nothing };
        match self.addresses.get(name) {
            Some(address) => Found::Callee(*address, cluster_name),
            None if self.services.contains(cluster_name.service()) => Found::Below(cluster_name),
            None => Found::Nothing,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use fairlead_model::{Callee, HostName, TeamspaceId};
    use proptest::prelude::*;

    use super::*;

    pub(crate) const DB: Ipv4Addr = Ipv4Addr::new(127, 72, 1, 2);
    pub(crate) const DB_0: Ipv4Addr = Ipv4Addr::new(127, 72, 1, 3);
    pub(crate) const DB_OF_PROD: Ipv4Addr = Ipv4Addr::new(127, 72, 1, 4);
    pub(crate) const OUTSIDE: Ipv4Addr = Ipv4Addr::new(127, 72, 1, 5);

    pub(crate) fn zone() -> Zone {
        let db = Callee::from("shop/db".parse::<ServiceRef>().expect("valid"));
        let service = db.service().expect("a service").clone();
        let pod = Callee::pod_of(service, "db-0".parse().expect("valid"));
        let host = Callee::from("db.example.net".parse::<HostName>().expect("valid"));
        let reached = |callee: &Callee, beside: Option<&str>| Reached {
            teamspace: TeamspaceId::generate(),
            callee: callee.clone(),
            ports: Vec::new(),
            is_home: false,
            beside: beside.map(|name| name.parse().expect("valid")),
        };
        let all = [(&db, None), (&pod, None), (&db, Some("prod")), (&host, None)];
        let all = all.map(|(callee, beside)| reached(callee, beside));
        Zone::of(all.iter().zip([DB, DB_0, DB_OF_PROD, OUTSIDE]))
    }

    fn address(name: &str) -> Option<Ipv4Addr> {
        match zone().find(name) {
            Found::Callee(address, _) | Found::Beside(address) => Some(address),
            _ => None,
        }
    }

    #[test]
    fn a_service_and_its_pods_have_their_names_in_every_form_and_case() {
        for name in ["db.shop", "db.shop.svc", "db.shop.svc.cluster.local.", "DB.Shop.SVC"] {
            assert_eq!(address(name), Some(DB), "{name}");
        }
        assert_eq!(address("db-0.db.shop.svc.cluster.local"), Some(DB_0));
    }

    #[test]
    fn a_teamspace_beside_another_one_has_names_of_its_own() {
        assert_eq!(address("DB.shop.prod.fairlead."), Some(DB_OF_PROD));
        assert_eq!(zone().name_of(DB_OF_PROD).as_deref(), Some("db.shop.prod.fairlead."));
        for between in ["fairlead", "prod.fairlead", "shop.prod.fairlead"] {
            assert_eq!(zone().find(between), Found::Between, "{between}");
        }
        for nothing in ["rod.fairlead", "x.db.shop.prod.fairlead", "db.pay.prod.fairlead"] {
            assert_eq!(zone().find(nothing), Found::Nothing, "{nothing}");
        }
    }

    #[test]
    fn a_host_outside_has_the_name_it_has_everywhere_and_none_beside() {
        assert_eq!(address("DB.example.net."), Some(OUTSIDE));
        assert_eq!(zone().name_of(OUTSIDE).as_deref(), Some("db.example.net."));
        for elsewhere in ["example.net", "x.db.example.net", "db.example.net.svc"] {
            assert_eq!(address(elsewhere), None, "{elsewhere}");
        }
        assert_eq!(zone().find("example.net"), Found::Elsewhere);
    }

    #[test]
    fn what_is_ours_is_told_from_what_is_not() {
        let zone = zone();
        for between in
            ["svc", "cluster.local", "svc.cluster.local", "shop.svc", "shop.svc.cluster.local"]
        {
            assert_eq!(zone.find(between), Found::Between, "{between}");
        }
        for nothing in [
            "web.shop",
            "web.shop.svc",
            "db.pay.svc.cluster.local",
            "pod.cluster.local",
            "x.svc",
            "a..shop",
        ] {
            assert_eq!(zone.find(nothing), Found::Nothing, "{nothing}");
        }
        for elsewhere in ["example.org", "", "localhost", "db.pay", "svc.example.org"] {
            assert_eq!(zone.find(elsewhere), Found::Elsewhere, "{elsewhere}");
        }
        let below = "_sql._tcp.db.shop".parse().expect("valid");
        assert_eq!(zone.find("_sql._tcp.db.shop.svc.cluster.local"), Found::Below(below));
    }

    #[test]
    fn an_address_has_the_name_in_full() {
        assert_eq!(zone().name_of(DB_0).as_deref(), Some("db-0.db.shop.svc.cluster.local."));
        assert_eq!(zone().name_of(Ipv4Addr::LOCALHOST), None);
    }

    proptest! {
        #[test]
        fn no_name_makes_it_panic(name in ".{0,300}") {
            drop(zone().find(&name));
        }
    }
}
