//! Where a stream within the cluster is connected, by what is seen of its Service, and how that is dialled. Which
//! addresses a host outside the cluster may have is `outside.rs`.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use fairlead_model::{PodName, Protocol, ServicePort, ServiceRef};
use fairlead_tunnel::socket;
use fairlead_wire::open::Refusal;
use tokio::net::TcpStream;

use crate::{seen::Published, watch::Inventory};

/// Where a Service is dialled: at its own address, and a headless one where its name leads, like everybody else in the
/// cluster does. One pod is dialled where its endpoint is: the cluster's DNS says the same, and later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Destination {
    Address(SocketAddr),
    Name(String, u16),
    /// Of a host outside the cluster.
    AnyOf(Vec<SocketAddr>),
}

impl Destination {
    pub(super) async fn dial(self) -> io::Result<TcpStream> {
        match self {
            Self::Address(address) => socket::connect(address).await,
            Self::Name(name, port) => TcpStream::connect((name, port)).await,
            Self::AnyOf(addresses) => TcpStream::connect(&addresses[..]).await,
        }
    }
}

pub(super) fn destination_of(
    inventory: &Inventory,
    service: &ServiceRef,
    pod: Option<&PodName>,
    port: ServicePort,
) -> Result<Destination, (Refusal, String)> {
    let number = port.port.get();
    let Some(seen) = inventory.service(service) else {
        return Err((Refusal::NotFound, format!("{service} does not exist in this cluster")));
    };
    if let Some(pod) = pod {
        let ip = address_of(inventory, service, pod)?;
        return Ok(Destination::Address(SocketAddr::new(ip, number)));
    }
    // Nobody answers a connection of UDP, so this is all that can be known of it.
    let is_udp = port.protocol == Protocol::Udp;
    if is_udp && seen.sentinel().is_none() && inventory.published(service) == Published::default() {
        return Err((Refusal::Unreachable, format!("{service} has no ready pod")));
    }
    let protocol = port.protocol.to_string();
    let has_port = seen.ports.iter().any(|p| p.port == number && p.protocol == protocol);
    match (seen.cluster_ip, seen.kind) {
        // Its pods may listen wherever they declare; the grant says where.
        (None, "Headless") => {
            let name = format!("{}.{}.svc", service.name, service.namespace);
            Ok(Destination::Name(name, number))
        }
        _ if !has_port => {
            Err((Refusal::NotFound, format!("{service} has no {protocol} port {}", port.port)))
        }
        (Some(ip), _) => Ok(Destination::Address(SocketAddr::new(ip, number))),
        // An ExternalName leads out of the cluster, which nobody was allowed.
        (None, kind) => Err((
            Refusal::Unreachable,
            format!("{service} is {kind} and has no address of its own"),
        )),
    }
}

fn address_of(
    inventory: &Inventory,
    service: &ServiceRef,
    name: &PodName,
) -> Result<IpAddr, (Refusal, String)> {
    match inventory.pod(service, name) {
        None => Err((Refusal::NotFound, format!("{service} has no pod {name} at this moment"))),
        Some(pod) if !pod.ready => {
            Err((Refusal::Unreachable, format!("pod {name} of {service} is not ready")))
        }
        Some(pod) => Ok(pod.ip),
    }
}

#[cfg(test)]
mod tests {
    use fairlead_model::Port;
    use serde_json::json;

    use super::*;
    use crate::{made_up, names};

    #[test]
    fn a_headless_service_is_dialled_by_its_name_and_nothing_outside_the_cluster() {
        let seen = |spec: serde_json::Value| {
            let service = made_up::service("ledger", spec);
            let callee = service.service.clone();
            let inventory = Inventory::of(vec![service], Vec::new());
            destination_of(&inventory, &callee, None, tcp(7000))
        };
        let ports = json!([{"port": 7000}]);
        for ports in [&ports, &json!(null)] {
            let headless = seen(json!({"clusterIP": "None", "ports": ports})).expect("dialled");
            assert_eq!(headless, Destination::Name("ledger.shop.svc".to_owned(), 7000));
        }
        assert!(seen(json!({"clusterIP": "10.96.0.7", "ports": [{"port": 80}]})).is_err());
        let outside =
            json!({"type": "ExternalName", "externalName": "example.com", "ports": ports});
        assert!(seen(outside).is_err());
    }

    fn tcp(number: u16) -> ServicePort {
        ServicePort::tcp(Port::new(number).expect("a port"))
    }

    #[test]
    fn a_pod_is_dialled_where_its_endpoint_is_while_it_is_ready() {
        let mut slice = made_up::slice(names::MANAGED_BY_CLUSTER, "", &["10.0.0.4", "10.0.0.5"]);
        slice["endpoints"][0]["hostname"] = "cart-0".into();
        slice["endpoints"][1]["hostname"] = "cart-1".into();
        slice["endpoints"][1]["conditions"]["ready"] = false.into();
        let slice = made_up::slice_seen(slice, "nobody");
        let cart = made_up::cart(json!({"clusterIP": "None"}));
        let inventory = Inventory::of(vec![cart.clone()], vec![slice]);
        let dialled = |pod: &str| {
            let pod = pod.parse().expect("valid");
            let dialled = destination_of(&inventory, &cart.service, Some(&pod), tcp(7000));
            dialled.map_err(|(refusal, _)| refusal)
        };
        let there = Destination::Address("10.0.0.4:7000".parse().expect("an address"));
        assert_eq!(dialled("cart-0"), Ok(there));
        assert_eq!(dialled("cart-1"), Err(Refusal::Unreachable));
        assert_eq!(dialled("cart-2"), Err(Refusal::NotFound));
    }
}
