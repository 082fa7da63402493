//! The table of the other replicas, by pod name: brought in line with the agent's pods, and with what was heard.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Instant};

use k8s_openapi::api::core::v1::Pod;
use tokio::sync::{mpsc, watch};

use super::{Evidence, Life, PeerState, Replica, judge, link, link::News, other::Other};
use crate::{
    config::Run,
    enrol::ReplicaKey,
    intercept::originals,
    names,
    seen::{AgentEndpoint, PodsSeen},
};

pub(super) struct Others {
    run: Arc<Run>,
    pods: watch::Receiver<PodsSeen>,
    identity: watch::Receiver<Arc<ReplicaKey>>,
    /// What each of them is told about us.
    state: watch::Receiver<PeerState>,
    replicas: BTreeMap<String, Other>,
    /// Another replica took the Lease from this living one because its address refused us; until both talk again
    /// a refusal is no evidence.
    refusals_mislead: bool,
}

impl Others {
    pub(super) fn new(
        run: Arc<Run>,
        pods: watch::Receiver<PodsSeen>,
        identity: watch::Receiver<Arc<ReplicaKey>>,
        state: watch::Receiver<PeerState>,
    ) -> Self {
        Self { run, pods, identity, state, replicas: BTreeMap::new(), refusals_mislead: false }
    }

    /// Waits until the agent's pods are others than before.
    pub(super) async fn changed(&mut self) -> Result<(), watch::error::RecvError> {
        self.pods.changed().await
    }

    pub(super) fn pods_are_known(&self) -> bool {
        self.pods.borrow().synced
    }

    /// Brings the table in line with the agent's pods.
    pub(super) fn meet(&mut self, news: &mpsc::Sender<News>) {
        let pods = self.pods.borrow_and_update().clone();
        self.replicas.retain(|name, other| {
            let pod = pods.pods.get(name).filter(|pod| lives(pod));
            other.ready = pod.is_some_and(|pod| originals::is_ready(pod));
            pod.is_some()
        });
        for (name, pod) in pods.pods.iter().filter(|(name, _)| **name != self.run.pod_name) {
            let Some(endpoint) = endpoint_of(pod, &self.run).filter(|_| lives(pod)) else {
                continue;
            };
            if self.replicas.get(name).is_some_and(|other| other.endpoint == endpoint) {
                continue;
            }
            let address = SocketAddr::new(endpoint.ip, self.run.peer_port);
            let telling = tokio::spawn(link::tell(
                name.clone(),
                address,
                self.identity.clone(),
                self.state.clone(),
                news.clone(),
            ));
            let other = Other::of(endpoint, originals::is_ready(pod), telling.abort_handle());
            self.replicas.insert(name.clone(), other);
        }
    }

    pub(super) fn learn(&mut self, news: News) {
        let (News::Heard { replica, .. }
        | News::Reached { replica }
        | News::Refused { replica }
        | News::Lost { replica }) = &news;
        let Some(other) = self.replicas.get_mut(replica) else { return };
        let heard = matches!(news, News::Heard { .. });
        other.learn(news);
        self.refusals_mislead &= !heard;
    }

    /// Takes note of what they said on the Lease.
    pub(super) fn read<'l>(
        &mut self,
        words: impl Iterator<Item = (&'l str, &'l str)>,
        now: Instant,
    ) {
        for (replica, word) in words {
            if let Some(other) = self.replicas.get_mut(replica) {
                other.read(word, now);
            }
        }
    }

    /// Takes note that one of them took us for dead.
    pub(super) const fn took_over(&mut self) {
        self.refusals_mislead = true;
    }

    fn evidence(&self, other: &Other) -> Evidence {
        let evidence = other.evidence(Instant::now());
        if self.refusals_mislead { Evidence { refusals: 0, ..evidence } } else { evidence }
    }

    pub(super) fn life_of(&self, name: &str) -> Life {
        if name == names::RESTORER {
            return Life::Alive;
        }
        let Some(other) = self.replicas.get(name) else {
            let pods = self.pods.borrow();
            let gone = pods.synced && !pods.pods.contains_key(name);
            return if gone { Life::Dead } else { Life::Silent };
        };
        judge(self.evidence(other))
    }

    /// Says whether one of them hears the hub.
    pub(super) fn one_is_linked(&self) -> bool {
        self.replicas.values().any(|other| other.hears_the_hub(self.evidence(other)))
    }

    /// Says whether the replica of this name may take us for dead although we live.
    pub(super) fn may_miss_us(&self, name: &str) -> bool {
        self.replicas.get(name).is_some_and(|other| !other.is_in_touch(self.evidence(other)))
    }

    /// Lists those that can be counted on.
    pub(super) fn alive(&self) -> BTreeMap<String, Replica> {
        let seen = |other: &Other| other.as_seen(self.evidence(other));
        self.replicas
            .iter()
            .filter_map(|(name, other)| Some((name.clone(), seen(other)?)))
            .collect()
    }
}

fn lives(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    !matches!(phase, Some("Succeeded" | "Failed"))
}

fn endpoint_of(pod: &Pod, run: &Run) -> Option<AgentEndpoint> {
    Some(AgentEndpoint {
        pod: pod.metadata.name.clone()?,
        pod_namespace: run.place.namespace.clone(),
        pod_uid: pod.metadata.uid.clone().unwrap_or_default(),
        node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default(),
        ip: originals::pod_ip(pod, run.pod_ip.is_ipv6())?,
    })
}
