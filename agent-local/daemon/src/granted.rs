//! What a session was granted, in the daemon's form: each Service, each pod that is called by a name of its own, and each
//! host outside the cluster.

use std::collections::BTreeMap;

use fairlead_model::{Callee, ExternalHost, HostName, Patterns, ServicePort, ServiceRef};
use fairlead_wire::grant::{self, Unverified};
use laptop_account::GrantedService;

/// Services, pods and hosts, each with the ports that may be reached.
pub(crate) type Services = Vec<(Callee, Vec<ServicePort>)>;

/// A grant as the hub sent it.
#[derive(Debug)]
pub(crate) struct Granted {
    pub(crate) jwt: String,
    /// `None` where they cannot be read. The agent verifies the grant, we only want to know the names.
    pub(crate) services: Option<Services>,
    /// Consumes: what they are about by now; `None` where nothing is said of it.
    pub(crate) patterns: Option<Patterns>,
}

impl Granted {
    /// Reads what came over the link.
    pub(crate) fn heard(jwt: String, words: &[String]) -> Self {
        let services = grant::unverified(&jwt).ok().map(|read| {
            let services = read.services.into_iter().flat_map(each_callee);
            services.chain(each_host(read.hosts)).collect()
        });
        let words: Result<Vec<_>, _> = words.iter().map(|word| word.parse()).collect();
        let patterns = words.and_then(Patterns::new).ok();
        Self { jwt, services, patterns }
    }

    /// Says whether it was decided before the one that is held: what the hub answers and what it says over the link may
    /// overtake each other.
    pub(crate) fn is_older_than(&self, held: &str) -> bool {
        let id = |jwt| grant::unverified(jwt).ok().map(|Unverified { id, .. }| id);
        matches!((id(&self.jwt), id(held)), (Some(this), Some(held)) if this < held)
    }
}

/// Returns the services and hosts as the hub's answer names them.
pub(crate) fn services_of(granted: Vec<GrantedService>, hosts: Vec<ExternalHost>) -> Services {
    let service = |granted: GrantedService| grant::GrantedService {
        service: ServiceRef::new(granted.namespace, granted.name),
        ports: (granted.ports.into_iter().map(ServicePort::tcp))
            .chain(granted.udp_ports.into_iter().map(ServicePort::udp))
            .collect(),
        pods: granted.pods,
    };
    granted.into_iter().map(service).flat_map(each_callee).chain(each_host(hosts)).collect()
}

/// Each with all of its ports: it has one address on this laptop.
fn each_host(granted: Vec<ExternalHost>) -> impl Iterator<Item = (Callee, Vec<ServicePort>)> {
    let mut hosts: BTreeMap<HostName, Vec<ServicePort>> = BTreeMap::new();
    for ExternalHost { name, port } in granted {
        hosts.entry(name).or_default().push(ServicePort::tcp(port));
    }
    hosts.into_iter().map(|(name, ports)| (name.into(), ports))
}

/// What is granted of a Service is granted of its pods.
fn each_callee(granted: grant::GrantedService) -> Services {
    let grant::GrantedService { service, ports, pods } = granted;
    let pods = pods.into_iter().map(|pod| Callee::pod_of(service.clone(), pod));
    let all = [Callee::from(service.clone())].into_iter().chain(pods);
    all.map(|callee| (callee, ports.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pod_has_the_ports_of_its_service() {
        let port = |number: &str| number.parse().expect("a port");
        let granted = GrantedService {
            namespace: "shop".parse().expect("valid"),
            name: "db".parse().expect("valid"),
            ports: vec![port("5432")],
            udp_ports: vec![port("53")],
            pods: vec!["db-0".parse().expect("valid")],
        };
        let said = services_of(vec![granted], Vec::new());
        let names: Vec<_> = said.iter().map(|(callee, _)| callee.to_string()).collect();
        assert_eq!(names, ["shop/db", "shop/db-0.db"]);
        for (_, ports) in said {
            assert_eq!(ports, [ServicePort::tcp(port("5432")), ServicePort::udp(port("53"))]);
        }
    }

    #[test]
    fn a_host_has_all_of_its_ports_at_one_name() {
        let hosts = ["db.example.net:5432", "a.b:1", "db.example.net:6432"];
        let hosts = hosts.map(|host| host.parse().expect("valid"));
        let said = services_of(Vec::new(), hosts.into()).into_iter();
        let said: Vec<_> = said.map(|(c, ports)| (c.to_string(), ports.len())).collect();
        assert_eq!(said, [("a.b".to_owned(), 1), ("db.example.net".to_owned(), 2)]);
    }
}
