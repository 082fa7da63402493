//! The pods behind an intercepted Service, and how to reach them without going through the Service.
//!
//! Requests go to pod addresses, never to the ClusterIP, which leads back here. Which pods count follows the rules
//! of Kubernetes' own endpoint controller, so that a Service behaves while it is intercepted as it did before.

use std::{
    collections::{BTreeMap, hash_map::DefaultHasher},
    hash::{Hash, Hasher},
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use fairlead_model::ServiceRef;
use fairlead_tunnel::socket;
use k8s_openapi::api::core::v1::{Container, Pod};
use tokio::{net::TcpStream, sync::watch, time::timeout};

use crate::seen::{PodsSeen, PortSeen, ServiceSeen, Target};

/// A pod in the same cluster answers within this time, or the next one is tried.
const CONNECT: Duration = Duration::from_secs(1);
/// So many pods are tried for one connection.
const TRIES: usize = 3;

/// Returns the addresses behind `port`: the ready pods, or those that still serve while they terminate.
pub(crate) fn addresses(
    pods: &PodsSeen,
    port: &PortSeen,
    publish_not_ready: bool,
    ipv6: bool,
) -> Vec<SocketAddr> {
    let candidates: Vec<_> = pods
        .pods
        .values()
        .filter_map(|pod| Candidate::of(pod, port, publish_not_ready, ipv6))
        .collect();
    let pick = |wanted: fn(&Candidate) -> bool| -> Vec<_> {
        candidates.iter().filter(|c| wanted(c)).map(|c| c.address).collect()
    };
    let ready = pick(|candidate| candidate.ready);
    if ready.is_empty() {
        pick(|candidate| candidate.serving && candidate.terminating)
    } else {
        ready
    }
}

/// Counts the pods that the cluster publishes for `service`, or will as soon as it comes to it.
pub(crate) fn ready(pods: &PodsSeen, service: &ServiceSeen) -> usize {
    let ipv6 = service.cluster_ip.is_some_and(|ip| ip.is_ipv6());
    // Whether a pod has the port that is asked for decides about the port, not about the endpoint.
    let any_port = PortSeen {
        name: String::new(),
        port: 1,
        protocol: String::new(),
        target: Target::Number(1),
        app_protocol: None,
    };
    let behind = pods.pods.values();
    let behind =
        behind.filter_map(|pod| Candidate::of(pod, &any_port, service.publish_not_ready, ipv6));
    behind.filter(|candidate| candidate.ready).count()
}

/// How many ready pods stand behind each Service that is intercepted, as far as they are known.
pub(crate) type Counts = BTreeMap<ServiceRef, usize>;

/// Keeps the count of one Service for as long as its pods are followed. While they are not listed yet it stays as it is.
pub(crate) async fn count(
    service: Arc<ServiceSeen>,
    mut pods: watch::Receiver<PodsSeen>,
    counts: watch::Sender<Counts>,
) {
    while let Ok(ready) = pods.wait_for(|pods| pods.synced).await.map(|pods| ready(&pods, &service))
    {
        counts.send_if_modified(|counts| {
            counts.insert(service.service.clone(), ready) != Some(ready)
        });
        if pods.changed().await.is_err() {
            return;
        }
    }
}

struct Candidate {
    address: SocketAddr,
    ready: bool,
    serving: bool,
    terminating: bool,
}

impl Candidate {
    fn of(pod: &Pod, port: &PortSeen, publish_not_ready: bool, ipv6: bool) -> Option<Self> {
        let status = pod.status.as_ref()?;
        if matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
            return None;
        }
        let ip = pod_ip(pod, ipv6)?;
        let number = match &port.target {
            Target::Number(number) => *number,
            Target::Name(name) => named_port(pod, name, &port.protocol)?,
        };
        let terminating = pod.metadata.deletion_timestamp.is_some();
        let serving = is_ready(pod);
        let ready = publish_not_ready || (serving && !terminating);
        Some(Self { address: SocketAddr::new(ip, number), ready, serving, terminating })
    }
}

/// Returns the pod's address of one family.
pub(crate) fn pod_ip(pod: &Pod, ipv6: bool) -> Option<IpAddr> {
    let status = pod.status.as_ref()?;
    let listed = status.pod_ips.iter().flatten().map(|ip| ip.ip.as_str());
    listed
        .chain(status.pod_ip.as_deref())
        .filter_map(|ip| ip.parse::<IpAddr>().ok())
        .find(|ip| ip.is_ipv6() == ipv6)
}

pub(crate) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|c| c.type_ == "Ready" && c.status == "True")
}

/// Finds a port by name: the first match among the containers, then among sidecars.
fn named_port(pod: &Pod, name: &str, protocol: &str) -> Option<u16> {
    let spec = pod.spec.as_ref()?;
    let is_sidecar = |c: &&Container| c.restart_policy.as_deref() == Some("Always");
    let sidecars = spec.init_containers.iter().flatten().filter(is_sidecar);
    let ports = spec.containers.iter().chain(sidecars).flat_map(|c| c.ports.iter().flatten());
    let matches = |p: &&k8s_openapi::api::core::v1::ContainerPort| {
        p.name.as_deref() == Some(name) && p.protocol.as_deref().unwrap_or("TCP") == protocol
    };
    ports.into_iter().find(matches).and_then(|p| u16::try_from(p.container_port).ok())
}

/// Orders `addresses` for one client: the same client prefers the same pod while the set of pods stays, and a pod
/// that goes moves only its own clients.
pub(crate) fn preferred_by(client: IpAddr, mut addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    addresses.sort_by_cached_key(|address| {
        let mut hasher = DefaultHasher::new();
        (client, address).hash(&mut hasher);
        hasher.finish()
    });
    addresses
}

/// Connects to the first of `addresses` that answers.
pub(crate) async fn connect(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotConnected, "no pod is ready");
    for address in addresses.iter().take(TRIES) {
        match timeout(CONNECT, socket::connect(*address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = error,
            Err(_) => {
                last = io::Error::new(io::ErrorKind::TimedOut, format!("{address} does not answer"))
            }
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::made_up::{self, Pod, listed, pod};

    fn behind(target: Target, publish_not_ready: bool, pods: Vec<Pod>) -> Vec<String> {
        let pods = listed(pods);
        let port = PortSeen {
            name: String::new(),
            port: 80,
            protocol: "TCP".into(),
            target,
            app_protocol: None,
        };
        addresses(&pods, &port, publish_not_ready, false).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn ready_pods_are_behind_a_service() {
        let pods = vec![pod("a", "10.0.0.1"), pod("b", "10.0.0.2").not_ready()];
        assert_eq!(behind(Target::Number(80), false, pods), ["10.0.0.1:80"]);
    }

    #[test]
    fn a_service_may_publish_pods_that_are_not_ready() {
        let pods = vec![pod("b", "10.0.0.2").not_ready()];
        assert_eq!(behind(Target::Number(80), true, pods), ["10.0.0.2:80"]);
    }

    #[test]
    fn terminating_pods_serve_only_when_no_other_is_ready() {
        let pods = || vec![pod("a", "10.0.0.1").terminating(), pod("b", "10.0.0.2")];
        assert_eq!(behind(Target::Number(80), false, pods()), ["10.0.0.2:80"]);
        let alone = vec![pod("a", "10.0.0.1").terminating(), pod("b", "10.0.0.2").not_ready()];
        assert_eq!(behind(Target::Number(80), false, alone), ["10.0.0.1:80"]);
    }

    #[test]
    fn finished_pods_and_pods_without_an_address_do_not_count() {
        let pods = vec![
            pod("a", "10.0.0.1").with("/status/phase", "Succeeded".into()),
            pod("b", "10.0.0.2").with("/status/phase", "Failed".into()),
            pod("c", "").with("/status/podIPs", json!([])),
        ];
        assert_eq!(behind(Target::Number(80), true, pods), [""; 0]);
    }

    #[test]
    fn a_named_port_is_the_first_of_that_name_and_protocol() {
        let ports = json!([
            {"name": "http", "containerPort": 53, "protocol": "UDP"},
            {"name": "http", "containerPort": 8081},
            {"name": "http", "containerPort": 8082},
        ]);
        let pods = vec![pod("a", "10.0.0.1").with("/spec/containers/0/ports", ports)];
        assert_eq!(behind(Target::Name("http".into()), false, pods), ["10.0.0.1:8081"]);
    }

    #[test]
    fn a_named_port_may_be_a_sidecars_but_not_an_init_containers() {
        let spec = |restart: serde_json::Value| {
            json!({
                "containers": [{"name": "app"}],
                "initContainers": [{
                    "name": "proxy", "restartPolicy": restart,
                    "ports": [{"name": "http", "containerPort": 15001}],
                }],
            })
        };
        let name = || Target::Name("http".into());
        let sidecar = vec![pod("a", "10.0.0.1").with("/spec", spec("Always".into()))];
        assert_eq!(behind(name(), false, sidecar), ["10.0.0.1:15001"]);
        let init = vec![pod("a", "10.0.0.1").with("/spec", spec(json!(null)))];
        assert_eq!(behind(name(), false, init), [""; 0]);
    }

    #[tokio::test]
    async fn a_count_follows_the_pods_and_stays_while_they_are_not_listed() {
        let service = Arc::new(made_up::cart(json!({})));
        let name = &service.service;
        let (counts_tx, mut counts_rx) = watch::channel(Counts::from([(name.clone(), 7)]));
        let (pods_tx, pods_rx) = watch::channel(PodsSeen::default());
        let counting = tokio::spawn(count(Arc::clone(&service), pods_rx, counts_tx));
        tokio::task::yield_now().await;
        assert!(!counts_rx.has_changed().expect("it counts"), "nothing is listed yet");
        for (unready, ready) in [(0, 2), (1, 1)] {
            let [a, b] = [pod("a", "10.0.0.1"), pod("b", "10.0.0.2")];
            let a = if unready == 1 { a.not_ready() } else { a };
            pods_tx.send_replace(listed(vec![a, b]));
            counts_rx.changed().await.expect("it counts");
            assert_eq!(counts_rx.borrow_and_update().get(name), Some(&ready));
        }
        drop(pods_tx);
        counting.await.expect("it ends with the watch");
    }

    #[test]
    fn a_client_keeps_its_pod_when_another_pod_goes() {
        let pods: Vec<SocketAddr> =
            (1..=5).map(|n| SocketAddr::from(([10, 0, 0, n], 80))).collect();
        for last in 1..=50 {
            let client = IpAddr::from([10, 9, 9, last]);
            let first = preferred_by(client, pods.clone());
            let without_the_last = pods.iter().filter(|p| **p != first[4]).copied().collect();
            assert_eq!(preferred_by(client, without_the_last)[0], first[0]);
        }
    }
}
