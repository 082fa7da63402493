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
            let gone = pods.synced && !pods.pods.get(name).is_some_and(|pod| lives(pod));
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::{super::UNHEARD, *};
    use crate::{
        enrol,
        made_up::{Pod, listed, pod},
    };

    const PATIENCE: Duration = Duration::from_secs(10);

    /// The replicas as `agent-1` knows them. Nobody answers at the addresses of the others.
    struct Scene {
        others: Others,
        pods: watch::Sender<PodsSeen>,
        news_tx: mpsc::Sender<News>,
        news_rx: mpsc::Receiver<News>,
    }

    fn scene() -> Scene {
        let (pods_tx, pods_rx) = watch::channel(PodsSeen::default());
        let (news_tx, news_rx) = mpsc::channel(1);
        let (run, state) = (Arc::new(Run::any()), watch::channel(PeerState::default()).1);
        let others = Others::new(run, pods_rx, enrol::any_replica_key(), state);
        Scene { others, pods: pods_tx, news_tx, news_rx }
    }

    impl Scene {
        fn shows(&mut self, pods: impl IntoIterator<Item = Pod>) {
            self.pods.send_replace(listed(pods));
            self.others.meet(&self.news_tx);
        }

        fn hears(&mut self, replica: &str, linked: bool) {
            let state = Box::new(PeerState { linked, ..PeerState::default() });
            let replica = replica.to_owned();
            self.others.learn(News::Heard { replica, at: Instant::now(), state });
        }

        fn is_refused_by(&mut self, replica: &str) {
            for _ in 0..3 {
                self.others.learn(News::Refused { replica: replica.to_owned() });
            }
        }

        fn alive(&self) -> Vec<String> {
            self.others.alive().into_keys().collect()
        }
    }

    fn other() -> Pod {
        pod("agent-2", "127.0.0.2")
    }

    #[tokio::test]
    async fn the_others_are_the_pods_that_live_but_for_our_own() {
        let mut scene = scene();
        scene.shows([pod("agent-1", "127.0.0.1"), other(), pod("agent-3", "127.0.0.3")]);
        for replica in ["agent-1", "agent-2", "agent-3", "a stranger"] {
            scene.hears(replica, true);
        }
        assert_eq!(scene.alive(), ["agent-2", "agent-3"]);
        scene.shows([other(), pod("agent-3", "127.0.0.3").with("/status/phase", "Failed".into())]);
        assert_eq!(scene.alive(), ["agent-2"]);
    }

    #[tokio::test]
    async fn a_pod_of_another_address_has_said_nothing_yet() {
        let mut scene = scene();
        scene.shows([other()]);
        scene.hears("agent-2", true);
        scene.shows([other().not_ready()]);
        assert_eq!(scene.alive(), ["agent-2"], "the same pod");
        scene.shows([pod("agent-2", "127.0.0.4")]);
        assert_eq!(scene.alive(), [""; 0]);
        assert_eq!(scene.others.life_of("agent-2"), Life::Silent);
    }

    #[tokio::test]
    async fn a_pod_that_is_gone_is_told_nothing_more() {
        let mut scene = scene();
        scene.shows([other()]);
        assert!(scene.news_rx.recv().await.is_some(), "its address was tried");
        scene.shows([]);
        drop(scene.news_tx);
        let all_ended = async { while scene.news_rx.recv().await.is_some() {} };
        timeout(PATIENCE, all_ended).await.expect("nobody tells anybody anything");
    }

    #[tokio::test]
    async fn a_writer_is_dead_when_the_api_knows_no_pod_of_its_name_that_lives() {
        let mut scene = scene();
        assert_eq!(scene.others.life_of("agent-2"), Life::Silent, "no pods are known yet");
        scene.shows([other()]);
        assert_eq!(scene.others.life_of("agent-2"), Life::Silent, "it has said nothing yet");
        scene.hears("agent-2", true);
        assert_eq!(scene.others.life_of("agent-2"), Life::Alive);
        scene.shows([other().with("/status/phase", "Failed".into())]);
        assert_eq!(scene.others.life_of("agent-2"), Life::Dead, "it was evicted");
        scene.shows([]);
        assert_eq!(scene.others.life_of("agent-2"), Life::Dead);
        assert_eq!(scene.others.life_of(names::RESTORER), Life::Alive, "it has no pod of its own");
    }

    #[tokio::test]
    async fn a_refusal_is_no_evidence_for_one_that_was_taken_for_dead_itself() {
        let mut scene = scene();
        scene.shows([other()]);
        scene.hears("agent-2", true);
        scene.is_refused_by("agent-2");
        assert_eq!(scene.others.life_of("agent-2"), Life::Dead);
        scene.others.took_over();
        assert_eq!(scene.others.life_of("agent-2"), Life::Alive, "the path may refuse both ways");
        assert!(scene.others.one_is_linked() && scene.alive() == ["agent-2"]);
        scene.hears("agent-2", true);
        scene.is_refused_by("agent-2");
        assert_eq!(scene.others.life_of("agent-2"), Life::Dead, "they talked in between");
    }

    #[tokio::test]
    async fn one_hears_the_hub_only_while_it_is_heard() {
        let mut scene = scene();
        scene.shows([other()]);
        scene.hears("agent-2", false);
        assert!(!scene.others.one_is_linked());
        scene.hears("agent-2", true);
        assert!(scene.others.one_is_linked());
        scene.is_refused_by("agent-2");
        assert!(!scene.others.one_is_linked());
    }

    #[tokio::test]
    async fn a_replica_may_miss_us_unless_we_reach_it_and_hear_it() {
        let mut scene = scene();
        scene.shows([other()]);
        let replica = || "agent-2".to_owned();
        assert!(!scene.others.may_miss_us("a stranger"), "it misses nobody");
        scene.hears("agent-2", true);
        assert!(scene.others.may_miss_us("agent-2"), "we do not reach it");
        scene.others.learn(News::Reached { replica: replica() });
        assert!(!scene.others.may_miss_us("agent-2"));
        scene.others.learn(News::Lost { replica: replica() });
        assert!(scene.others.may_miss_us("agent-2"));
    }

    #[tokio::test]
    async fn a_word_on_the_lease_keeps_one_that_is_not_heard() {
        let mut scene = scene();
        scene.shows([other()]);
        let at = Instant::now().checked_sub(UNHEARD).expect("long after boot");
        let (replica, state) = ("agent-2".to_owned(), Box::default());
        scene.others.learn(News::Heard { replica, at, state });
        assert_eq!(scene.alive(), [""; 0]);
        let words = [("agent-2", "a word"), ("a stranger", "a word")];
        scene.others.read(words.into_iter(), Instant::now());
        assert_eq!(scene.alive(), ["agent-2"]);
    }
}
