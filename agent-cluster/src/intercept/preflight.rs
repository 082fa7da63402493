//! Whether a Service can be intercepted, asked before anything is changed. Each refusal says why and what helps.

use std::{io, net::SocketAddr, time::Duration};

use fairlead_model::{InterceptPort, ServiceRef};
use kube::Client;
use tokio::{net::TcpStream, task::JoinSet, time::timeout};

use super::originals;
use crate::{
    apply::{ApplyError, info::Info, services},
    names::Sentinel,
    seen::{PodsSeen, ServiceSeen},
};

/// A pod that a policy hides does not answer at all; this long is asked.
pub(crate) const REACH: Duration = Duration::from_secs(2);
/// So many pods per port are asked.
const PODS_ASKED: usize = 16;

/// Says why `service` can never be intercepted as it stands; part of the catalogue, so that nobody has to try.
pub(crate) fn refusal(service: &ServiceSeen, agent_is_ipv6: bool) -> Option<String> {
    let family = if agent_is_ipv6 { "IPv6" } else { "IPv4" };
    let not_tcp = service.ports.iter().find(|port| !port.is_tcp());
    let reason = match service.kind {
        "ExternalName" => "it is an ExternalName: no traffic passes through the cluster. Consume it instead".to_owned(),
        "Headless" => "it is headless: its clients connect to pod addresses that they got from DNS. Give it a \
                       Service with a cluster IP for the intercept"
            .to_owned(),
        _ if service.owners_selector().is_empty() => {
            "it has no selector: its endpoints are written by somebody else. Consume it instead".to_owned()
        }
        _ if service.internal_traffic_local => {
            "its internalTrafficPolicy is Local: nodes without an agent would not answer. Set it to Cluster".to_owned()
        }
        _ if service.external_traffic_local && service.kind != "ClusterIP" => {
            "its externalTrafficPolicy is Local: nodes without an agent would not answer from outside. Set it to Cluster"
                .to_owned()
        }
        _ if not_tcp.is_some() => format!(
            "its port {} is {}: only TCP can be intercepted, and all ports of a Service move together. Put that \
             port into a Service of its own",
            not_tcp?.port, not_tcp?.protocol
        ),
        _ if service.ports.is_empty() => "it has no port".to_owned(),
        _ if service.ip_families.iter().any(|f| f != family) => {
            format!("it has addresses of another family than the agent's pods ({family})")
        }
        _ => return None,
    };
    Some(format!("{} cannot be intercepted: {reason}.", service.service))
}

/// Says which of the wanted ports `service` does not have.
pub(crate) fn missing_port(service: &ServiceSeen, wanted: &[InterceptPort]) -> Option<String> {
    let has = |port: u16| service.ports.iter().any(|p| p.port == port);
    let missing = wanted.iter().find(|port| !has(port.service_port.get()))?.service_port;
    let ports: Vec<_> = service.ports.iter().map(|port| port.port.to_string()).collect();
    Some(format!("{} has no port {missing}. It has: {}.", service.service, ports.join(", ")))
}

/// Says what it means that somebody else's key stands on the Service.
pub(crate) fn foreign(service: &ServiceRef, value: &str, begun: bool) -> String {
    if begun {
        return format!(
            "contested: another agent took {service} over (its selector says {value}). Agree with whoever runs that \
             agent who may intercept it, and try again."
        );
    }
    format!(
        "{service} is redirected by another agent (its selector says {value}). End that intercept first."
    )
}

#[derive(Debug)]
pub(crate) enum NotAllowed {
    /// The API said no, and will say it again.
    Refused(String),
    /// It could not say: to be asked again.
    NotKnown(String),
}

impl NotAllowed {
    fn of(error: &ApplyError, service: &ServiceRef) -> Self {
        if error.is_forbidden() {
            return Self::Refused(format!(
                "The cluster does not allow it: {error}. Ask whoever runs the cluster to look at the agent's role \
                 and at the admission policies of namespace {}.",
                service.namespace
            ));
        }
        match error.is_refusal() {
            true => {
                Self::Refused(format!("The cluster's API does not take the redirect: {error}."))
            }
            false => Self::NotKnown(error.to_string()),
        }
    }
}

/// Asks the API whether it would take the key.
pub(crate) async fn ask(
    client: &Client,
    service: &ServiceSeen,
    sentinel: &Sentinel,
    info: &Info,
) -> Result<(), NotAllowed> {
    let tried = services::try_key(client, service, sentinel, info).await;
    tried.map_err(|error| NotAllowed::of(&error, &service.service))
}

/// Says which pod behind `service` the replica `me` cannot reach: requests could not go there when the laptop is away.
pub(crate) async fn obstacle(me: &str, service: &ServiceSeen, pods: &PodsSeen) -> Option<String> {
    let ipv6 = service.cluster_ip.is_some_and(|ip| ip.is_ipv6());
    let behind = service.ports.iter().filter(|port| port.is_tcp()).flat_map(|port| {
        originals::addresses(pods, port, service.publish_not_ready, ipv6)
            .into_iter()
            .take(PODS_ASKED)
    });
    let address = reach_each(behind.collect()).await.err()?;
    let ServiceRef { namespace, .. } = &service.service;
    Some(format!(
        "The agent replica {me} cannot reach the pod {address} behind {}: no answer in {} s. Probably a NetworkPolicy \
         of namespace {namespace}: allow ingress from the agent's namespace, or requests could not go to the pods \
         when the laptop is away.",
        service.service,
        REACH.as_secs(),
    ))
}

/// Fails with the first address that is cut off. A refused connection is an answer: the network lets us through, and
/// a port nobody listens on is refused to every client alike.
async fn reach_each(addresses: Vec<SocketAddr>) -> Result<(), SocketAddr> {
    let mut asked = JoinSet::new();
    for address in addresses {
        asked.spawn(async move { (address, answers(address).await) });
    }
    while let Some(answer) = asked.join_next().await {
        if let Ok((address, false)) = answer {
            return Err(address);
        }
    }
    Ok(())
}

async fn answers(address: SocketAddr) -> bool {
    match timeout(REACH, TcpStream::connect(address)).await {
        Ok(Ok(_)) => true,
        Ok(Err(error)) => error.kind() == io::ErrorKind::ConnectionRefused,
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::made_up;

    fn refused(spec: Value) -> Option<String> {
        refusal(&made_up::cart(spec), false)
    }

    fn plain() -> Value {
        json!({
            "type": "ClusterIP", "clusterIP": "10.96.0.7", "ipFamilies": ["IPv4"],
            "selector": {"app": "cart"}, "ports": [{"port": 80, "protocol": "TCP"}],
        })
    }

    fn with(key: &str, value: Value) -> Value {
        let mut spec = plain();
        spec[key] = value;
        spec
    }

    #[test]
    fn an_ordinary_service_can_be_intercepted() {
        assert_eq!(refused(plain()), None);
        assert_eq!(refused(with("type", "NodePort".into())), None);
        assert_eq!(refused(with("type", "LoadBalancer".into())), None);
    }

    #[test]
    fn each_hard_case_is_refused_with_its_reason() {
        for (spec, word) in [
            (with("type", "ExternalName".into()), "ExternalName"),
            (with("clusterIP", "None".into()), "headless"),
            (with("selector", json!({})), "selector"),
            (with("internalTrafficPolicy", "Local".into()), "internalTrafficPolicy"),
            (node_port_for_its_own_node(), "externalTrafficPolicy"),
            (with("ports", json!([{"port": 53, "protocol": "UDP"}])), "UDP"),
            (with("ports", json!([])), "no port"),
            (with("ipFamilies", json!(["IPv4", "IPv6"])), "family"),
        ] {
            let reason = refused(spec).expect(word);
            assert!(reason.contains(word), "{reason}");
            assert!(reason.starts_with("shop/cart cannot be intercepted"), "{reason}");
        }
    }

    fn node_port_for_its_own_node() -> Value {
        let mut spec = with("externalTrafficPolicy", "Local".into());
        spec["type"] = "NodePort".into();
        spec
    }

    #[test]
    fn a_port_that_the_service_does_not_have_is_named() {
        let service = made_up::cart(plain());
        let port = |number| fairlead_model::Port::new(number).expect("a port");
        let wanted =
            |number| [InterceptPort { service_port: port(number), laptop_port: port(3000) }];
        assert_eq!(missing_port(&service, &wanted(80)), None);
        let missing = missing_port(&service, &wanted(81)).expect("81 is not there");
        assert!(missing.contains("no port 81") && missing.contains("80"), "{missing}");
    }

    fn api_says(code: u16) -> NotAllowed {
        let status = json!({"status": "Failure", "code": code, "message": "its own words"});
        let status = serde_json::from_value(status).expect("a Status");
        let error =
            ApplyError::Api { what: "x".into(), source: kube::Error::Api(Box::new(status)) };
        NotAllowed::of(&error, &"shop/cart".parse().expect("valid"))
    }

    #[test]
    fn only_a_missing_right_is_called_one() {
        let NotAllowed::Refused(denied) = api_says(403) else { panic!("403 is a refusal") };
        assert!(denied.contains("does not allow") && denied.contains("its own words"), "{denied}");
        let NotAllowed::Refused(invalid) = api_says(422) else { panic!("422 is a refusal") };
        assert!(!invalid.contains("role"), "{invalid}");
        for code in [401, 429, 500, 503] {
            assert!(matches!(api_says(code), NotAllowed::NotKnown(_)), "{code} may pass");
        }
    }

    /// Nobody accepts here, and the queue is full: the kernel drops what comes, as a NetworkPolicy would.
    #[tokio::test(start_paused = true)]
    async fn a_pod_that_swallows_packets_is_an_obstacle() {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.bind(([127, 0, 0, 1], 0).into()).expect("a port");
        let full = socket.listen(1).expect("listening");
        let address = full.local_addr().expect("bound");
        let waiting: Vec<_> = (0..4)
            .map(|_| {
                let socket =
                    socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)
                        .expect("a socket");
                socket.set_nonblocking(true).expect("settable");
                let _in_progress = socket.connect(&address.into());
                socket
            })
            .collect();
        assert_eq!(reach_each(vec![address]).await, Err(address));
        drop(waiting);
    }

    #[tokio::test]
    async fn a_refused_connection_is_an_answer() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = free.local_addr().expect("bound");
        drop(free);
        assert!(answers(address).await);
    }
}
