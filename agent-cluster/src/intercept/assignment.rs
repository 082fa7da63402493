//! On which port of the replicas each port of an intercepted Service is listened for.
//!
//! kube-proxy wants one number per Service port for all replicas. The writer assigns it and tells the others.

use std::collections::BTreeSet;

use fairlead_model::{ServiceRef, SessionId};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tracing::warn;

use crate::{
    names::LISTEN_PORTS,
    seen::{PortSeen, ServiceSeen, SlicePort},
};

/// What the writer tells every replica to open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Assignment {
    pub(crate) service: ServiceRef,
    /// Whose laptop takes the connections; none while a Service is being given back.
    pub(crate) session: Option<SessionId>,
    pub(crate) ports: Vec<AssignedPort>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AssignedPort {
    /// Port of the Service.
    pub(crate) port: u16,
    pub(crate) name: String,
    pub(crate) protocol: String,
    pub(crate) app_protocol: Option<String>,
    pub(crate) listen: u16,
}

impl Assignment {
    pub(crate) fn listens_on(&self) -> BTreeSet<u16> {
        self.ports.iter().map(|port| port.listen).collect()
    }

    pub(crate) fn slice_ports(&self) -> Vec<SlicePort> {
        let slice_port = |port: &AssignedPort| SlicePort {
            name: port.name.clone(),
            protocol: port.protocol.clone(),
            app_protocol: port.app_protocol.clone(),
            listen: port.listen,
        };
        self.ports.iter().map(slice_port).collect()
    }
}

/// Chooses where to listen for each TCP port of `service`: where it is listened already (`standing`, by name), else at a
/// place that follows from the name, so that replicas rarely have to move anything.
pub(crate) fn assign(
    service: &ServiceSeen,
    standing: &[(String, u16)],
    taken: &BTreeSet<u16>,
) -> Vec<AssignedPort> {
    let mut taken = taken.clone();
    taken.extend(standing.iter().map(|(_, listen)| *listen));
    let mut assigned = Vec::with_capacity(service.ports.len());
    for port in service.ports.iter().filter(|port| port.is_tcp()) {
        // A slice that was turned to the pods bears their ports, not ours.
        let kept = standing
            .iter()
            .find(|(name, listen)| *name == port.name && LISTEN_PORTS.contains(listen))
            .map(|(_, listen)| *listen);
        let Some(listen) = kept.or_else(|| free_port(&service.service, port, &taken)) else {
            warn!(service = %service.service, "No listen port is free");
            return Vec::new();
        };
        taken.insert(listen);
        assigned.push(AssignedPort {
            port: port.port,
            name: port.name.clone(),
            protocol: port.protocol.clone(),
            app_protocol: port.app_protocol.clone(),
            listen,
        });
    }
    assigned
}

fn free_port(service: &ServiceRef, port: &PortSeen, taken: &BTreeSet<u16>) -> Option<u16> {
    let digest = Sha256::digest(format!("{service}:{}", port.name));
    let span = LISTEN_PORTS.end() - LISTEN_PORTS.start() + 1;
    let first = u16::from_be_bytes([digest[0], digest[1]]) % span;
    (0..span)
        .map(|step| LISTEN_PORTS.start() + (first + step) % span)
        .find(|candidate| !taken.contains(candidate))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::made_up;

    fn service(ports: &[(&str, u16)]) -> ServiceSeen {
        let port = |(name, port): &(&str, u16)| json!({"name": name, "port": port});
        made_up::cart(json!({"ports": ports.iter().map(port).collect::<Vec<_>>()}))
    }

    fn listens(assigned: &[AssignedPort]) -> Vec<u16> {
        assigned.iter().map(|port| port.listen).collect()
    }

    #[test]
    fn two_replicas_choose_the_same_ports_for_themselves() {
        let service = service(&[("http", 80), ("grpc", 81)]);
        let first = assign(&service, &[], &BTreeSet::new());
        assert_eq!(first, assign(&service, &[], &BTreeSet::new()));
        assert!(first.iter().all(|port| LISTEN_PORTS.contains(&port.listen)));
        assert_ne!(first[0].listen, first[1].listen);
    }

    #[test]
    fn the_ports_of_pods_are_not_taken_for_ours() {
        let service = service(&[("http", 80), ("grpc", 81)]);
        let standing = [("http".to_owned(), 8080), ("grpc".to_owned(), 20_001)];
        let assigned = listens(&assign(&service, &standing, &BTreeSet::new()));
        assert!(LISTEN_PORTS.contains(&assigned[0]), "{assigned:?}");
        assert_eq!(assigned[1], 20_001);
    }

    #[test]
    fn a_port_that_is_taken_is_left_out() {
        let service = service(&[("", 80)]);
        let first = listens(&assign(&service, &[], &BTreeSet::new()))[0];
        let second = listens(&assign(&service, &[], &BTreeSet::from([first])))[0];
        assert_ne!(first, second);
        assert!(assign(&service, &[], &LISTEN_PORTS.collect()).is_empty());
    }

    #[test]
    fn nobody_is_promised_a_port_that_is_not_listened_on() {
        let mut service = service(&[("http", 80), ("dns", 53)]);
        service.ports[1].protocol = "UDP".to_owned();
        let assigned = assign(&service, &[], &BTreeSet::new());
        assert_eq!(assigned.iter().map(|port| port.port).collect::<Vec<_>>(), [80]);
    }

    #[test]
    fn a_port_that_stands_stays_where_it_is() {
        let standing = [("http".to_owned(), 20_777)];
        let assigned =
            assign(&service(&[("http", 8080), ("new", 81)]), &standing, &BTreeSet::new());
        assert_eq!(assigned[0].listen, 20_777);
        assert_ne!(assigned[1].listen, 20_777);
    }
}
