//! Whether a Service can be intercepted, asked before anything is changed. Each refusal says why and what helps.

use std::{io, net::SocketAddr, time::Duration};

use kube::Client;
use tokio::{net::TcpStream, task::JoinSet, time::timeout};

use super::originals;
use crate::{
    apply::services::{self, Info},
    names::{Owner, Sentinel},
    watch::{PodsSeen, ServiceSeen},
};

/// A pod that a policy hides does not answer at all; this long is asked.
const REACH: Duration = Duration::from_secs(2);
/// So many pods per port are asked.
const PODS_ASKED: usize = 16;

/// Says why `service` can never be intercepted as it stands; part of the catalogue, so that nobody has to try.
pub(crate) fn refusal(service: &ServiceSeen, agent_is_ipv6: bool) -> Option<String> {
    let family = if agent_is_ipv6 { "IPv6" } else { "IPv4" };
    let not_tcp = service.ports.iter().find(|port| port.protocol != "TCP");
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

/// Says why `service` may not be redirected now: a foreign key, the API's own word, or originals out of reach.
pub(crate) async fn examine(
    client: &Client,
    owner: &Owner,
    service: &ServiceSeen,
    sentinel: &Sentinel,
    info: &Info,
    pods: &PodsSeen,
) -> Result<(), String> {
    let name = &service.service;
    if let Some(value) = service.sentinel().filter(|value| owner.session_of(value).is_none()) {
        return Err(format!(
            "{name} is redirected by another agent (its selector says {value}). End that intercept first."
        ));
    }
    if let Err(error) = services::add_key(client, name, &service.uid, sentinel, info, true).await {
        return Err(format!(
            "The cluster does not allow it: {error}. Ask whoever runs the cluster to look at the agent's role and \
             at the admission policies of namespace {}.",
            name.namespace
        ));
    }
    for port in &service.ports {
        let addresses = originals::addresses(pods, port, service.publish_not_ready, false);
        reach_each(addresses).await.map_err(|address| {
            format!(
                "The agent cannot reach the pod {address} behind {name}: no answer in {} s. Probably a NetworkPolicy \
                 of namespace {}: allow ingress from the agent's namespace, or requests could not go to the pods \
                 when the laptop is away.",
                REACH.as_secs(),
                name.namespace
            )
        })?;
    }
    Ok(())
}

/// Fails with the first address that is cut off. A refused connection is an answer: the network lets us through, and
/// a port nobody listens on is refused to every client alike.
async fn reach_each(addresses: Vec<SocketAddr>) -> Result<(), SocketAddr> {
    let mut asked = JoinSet::new();
    for address in addresses.into_iter().take(PODS_ASKED) {
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
    use k8s_openapi::api::core::v1::Service;
    use serde_json::{Value, json};

    use super::*;

    fn refused(spec: Value) -> Option<String> {
        let object =
            json!({"metadata": {"name": "cart", "namespace": "shop", "uid": "u"}, "spec": spec});
        let object: Service = serde_json::from_value(object).expect("a Service");
        refusal(&ServiceSeen::from_object(&object).expect("readable"), false)
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
        assert_eq!(refused(with("externalTrafficPolicy", "Local".into())), None);
    }

    #[test]
    fn each_hard_case_is_refused_with_its_reason() {
        for (spec, word) in [
            (with("type", "ExternalName".into()), "ExternalName"),
            (with("clusterIP", "None".into()), "headless"),
            (with("selector", json!({})), "selector"),
            (with("internalTrafficPolicy", "Local".into()), "internalTrafficPolicy"),
            (with("ports", json!([{"port": 53, "protocol": "UDP"}])), "UDP"),
            (with("ports", json!([])), "no port"),
            (with("ipFamilies", json!(["IPv4", "IPv6"])), "family"),
        ] {
            let reason = refused(spec).expect(word);
            assert!(reason.contains(word), "{reason}");
            assert!(reason.starts_with("shop/cart cannot be intercepted"), "{reason}");
        }
    }

    #[tokio::test]
    async fn a_refused_connection_is_an_answer() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = free.local_addr().expect("bound");
        drop(free);
        assert!(answers(address).await);
    }
}
