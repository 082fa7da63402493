//! The task that follows the other replicas and the Lease, and publishes who lives and who writes.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use fairlead_model::timers;
use k8s_openapi::api::{coordination::v1::Lease, core::v1::Pod};
use kube::Client;
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::{AbortHandle, JoinSet},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{
    Evidence, Hearing, Holder, LeaseSeen, Life, PeerState, PeersSeen, Replica, judge, link,
    link::News, may_hold, may_serve,
};
use crate::{
    apply::{ApplyError, leases},
    config::Run,
    enrol::ReplicaKey,
    intercept::originals,
    lease::{self, LeaseAge},
    names,
    seen::{AgentEndpoint, PodsSeen},
};

/// The Lease is read this often: a GET by name, so that its age is known to half a second.
const LEASE_LOOK: Duration = Duration::from_millis(500);
/// A replica that cannot renew for this long must assume that another one writes.
const LEASE_GIVEN_UP: Duration = Duration::from_secs(10);
/// An API that does not answer must not keep the replica from hearing the others.
const API_LIMIT: Duration = Duration::from_millis(1500);
/// Silence makes no noise: what is known is judged again this often.
const JUDGE_AGAIN: Duration = Duration::from_millis(200);
const NEWS_QUEUE: usize = 64;

pub(crate) struct Peers {
    client: Client,
    run: Arc<Run>,
    pods: watch::Receiver<PodsSeen>,
    identity: watch::Receiver<Arc<ReplicaKey>>,
    state: watch::Receiver<PeerState>,
    seen: watch::Sender<PeersSeen>,
    others: BTreeMap<String, Other>,
    lease: Option<Lease>,
    lease_age: LeaseAge,
    /// What is being asked of the API: one thing at a time, while everything else goes on.
    asking: JoinSet<Answer>,
    look_due: bool,
    /// The Lease has to be read before it is written: it never was, or somebody else may have been faster.
    lease_is_stale: bool,
    renewed_at: Option<Instant>,
    spoke_at: Option<Instant>,
    unlinked_since: Option<Instant>,
    /// Another replica took the Lease from this living one because its address refused us; until both talk again
    /// a refusal is no evidence.
    refusals_mislead: bool,
    stopping: CancellationToken,
}

/// One other replica.
struct Other {
    endpoint: AgentEndpoint,
    ready: bool,
    heard: Option<(Instant, PeerState)>,
    refusals: u32,
    /// Our own connection to it stands.
    reached: bool,
    /// What it last said on the Lease, and when that was read.
    word: Option<(String, Instant)>,
    telling: AbortHandle,
}

/// What came of a question to the API.
enum Answer {
    Read(Option<Lease>),
    Held(Lease),
    LetGo(Lease),
    Nothing,
}

/// What to ask of the API next.
enum Question {
    Read,
    Hold,
    LetGo,
    Speak,
}

impl Peers {
    /// Begins to follow the replicas. `stopping` makes this one let go of the Lease.
    pub(crate) fn start(
        client: Client,
        run: Arc<Run>,
        pods: watch::Receiver<PodsSeen>,
        identity: watch::Receiver<Arc<ReplicaKey>>,
        state: watch::Receiver<PeerState>,
        listener: TcpListener,
        stopping: CancellationToken,
    ) -> watch::Receiver<PeersSeen> {
        let (seen_tx, seen_rx) = watch::channel(PeersSeen::default());
        let peers = Self {
            client,
            run,
            pods,
            identity,
            state,
            seen: seen_tx,
            others: BTreeMap::new(),
            lease: None,
            lease_age: LeaseAge::since(Instant::now()),
            asking: JoinSet::new(),
            look_due: true,
            lease_is_stale: true,
            renewed_at: None,
            spoke_at: None,
            unlinked_since: Some(Instant::now()),
            refusals_mislead: false,
            stopping,
        };
        tokio::spawn(peers.follow(listener));
        seen_rx
    }

    async fn follow(mut self, listener: TcpListener) {
        let (news_tx, mut news_rx) = mpsc::channel(NEWS_QUEUE);
        let hearing = tokio::spawn(link::hear(listener, self.identity.clone(), news_tx.clone()));
        let mut look = tokio::time::interval(LEASE_LOOK);
        let mut judge_again = tokio::time::interval(JUDGE_AGAIN);
        loop {
            let stopping = self.stopping.clone();
            tokio::select! {
                Some(news) = news_rx.recv() => self.learn(news),
                Some(answer) = self.asking.join_next() => self.take_in(answer.unwrap_or(Answer::Nothing)),
                Ok(()) = self.pods.changed() => self.meet(&news_tx),
                Ok(()) = self.state.changed() => {}
                _ = look.tick() => self.look_due = true,
                _ = judge_again.tick() => {}
                () = self.seen.closed() => break,
                () = stopping.cancelled() => break,
            }
            self.follow_hub();
            if self.asking.is_empty()
                && let Some(question) = self.next_question()
            {
                self.ask(question);
            }
            self.publish();
        }
        hearing.abort();
        for other in self.others.values() {
            other.telling.abort();
        }
        self.let_go().await;
    }

    fn learn(&mut self, news: News) {
        let (News::Heard { replica, .. }
        | News::Reached { replica }
        | News::Refused { replica }
        | News::Lost { replica }) = &news;
        let Some(other) = self.others.get_mut(replica) else { return };
        let heard = matches!(news, News::Heard { .. });
        other.learn(news);
        self.refusals_mislead &= !heard;
    }

    fn follow_hub(&mut self) {
        match self.state.borrow().linked {
            true => self.unlinked_since = None,
            false => {
                self.unlinked_since.get_or_insert_with(Instant::now);
            }
        }
    }

    /// Brings the list of replicas in line with the agent's pods.
    fn meet(&mut self, news: &mpsc::Sender<News>) {
        let pods = self.pods.borrow_and_update().clone();
        self.others.retain(|name, other| {
            let pod = pods.pods.get(name).filter(|pod| lives(pod));
            other.ready = pod.is_some_and(|pod| originals::is_ready(pod));
            if pod.is_none() {
                other.telling.abort();
            }
            pod.is_some()
        });
        for (name, pod) in pods.pods.iter().filter(|(name, _)| **name != self.run.pod_name) {
            let Some(endpoint) = endpoint_of(pod, &self.run).filter(|_| lives(pod)) else {
                continue;
            };
            if self.others.get(name).is_some_and(|other| other.endpoint == endpoint) {
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
            if let Some(before) = self.others.insert(name.clone(), other) {
                before.telling.abort();
            }
        }
    }

    fn evidence(&self, other: &Other) -> Evidence {
        Evidence {
            pod_exists: true,
            pod_ready: other.ready,
            silent_for: other.heard.as_ref().map(|(at, _)| at.elapsed()),
            refusals: if self.refusals_mislead { 0 } else { other.refusals },
            word_for: other.word.as_ref().map(|(_, at)| at.elapsed()),
        }
    }

    fn life_of(&self, name: &str) -> Life {
        if name == names::RESTORER {
            return Life::Alive;
        }
        let Some(other) = self.others.get(name) else {
            let pods = self.pods.borrow();
            let gone = pods.synced && !pods.pods.contains_key(name);
            return if gone { Life::Dead } else { Life::Silent };
        };
        judge(self.evidence(other))
    }

    fn hearing(&self) -> Hearing {
        let is_linked = |other: &Other| {
            let state = other.heard.as_ref().map(|(_, state)| state);
            state.is_some_and(|state| state.linked && !state.draining)
                && judge(self.evidence(other)) == Life::Alive
        };
        Hearing {
            without_hub_for: self.unlinked_since.map(|since| since.elapsed()),
            a_peer_is_linked: self.others.values().any(is_linked),
        }
    }

    fn holder(&self) -> Holder {
        match lease::holder(self.lease.as_ref()) {
            None => Holder::Nobody,
            Some(holder) if holder == self.run.pod_name => Holder::Myself,
            Some(holder) => Holder::Other(self.life_of(holder)),
        }
    }

    /// Decides what to ask: to give way, to take or renew the Lease, to say that we live, or only how it stands.
    fn next_question(&mut self) -> Option<Question> {
        let (holder, hearing) = (self.holder(), self.hearing());
        if holder == Holder::Myself && hearing.gives_way() && !self.lease_is_stale {
            return Some(Question::LetGo);
        }
        let fresh = self.renewed_at.is_some_and(|at| at.elapsed() < timers::AGENT_LEASE_RENEWAL);
        let renewed = holder == Holder::Myself && fresh;
        let stands_back = holder != Holder::Myself && hearing.stands_back();
        let unchanged_for = self.lease_age.unchanged_for(Instant::now());
        let may_hold = may_hold(LeaseSeen { holder, unchanged_for });
        let may_write = !self.lease_is_stale && self.pods.borrow().synced;
        if may_write && may_hold && !renewed && !stands_back {
            return Some(Question::Hold);
        }
        if may_write && self.must_speak() {
            self.spoke_at = Some(Instant::now());
            return Some(Question::Speak);
        }
        std::mem::take(&mut self.look_due).then_some(Question::Read)
    }

    /// Says whether the writer may take us for dead although we live: then it is told so through the API.
    fn must_speak(&self) -> bool {
        let writer = lease::holder(self.lease.as_ref()).and_then(|name| self.others.get(name));
        let unheard = writer
            .is_some_and(|writer| !writer.reached || judge(self.evidence(writer)) == Life::Silent);
        unheard && self.spoke_at.is_none_or(|at| at.elapsed() >= timers::INTERCEPT_BEAT)
    }

    fn ask(&mut self, question: Question) {
        let (client, lease) = (self.client.clone(), self.lease.clone());
        let (namespace, me) = (self.run.place.namespace.clone(), self.run.pod_name.clone());
        self.asking.spawn(async move {
            let asked = async {
                let lease = lease.as_ref();
                match (question, lease) {
                    (Question::Hold, _) => {
                        leases::hold(&client, &namespace, lease, &me).await.map(Answer::Held)
                    }
                    (Question::LetGo, Some(lease)) => {
                        leases::release(&client, &namespace, lease).await.map(Answer::LetGo)
                    }
                    (Question::Speak, Some(lease)) => {
                        leases::speak(&client, &namespace, lease, &me)
                            .await
                            .map(|lease| Answer::Read(Some(lease)))
                    }
                    _ => Ok(lease::read(&client, &namespace)
                        .await
                        .map_or(Answer::Nothing, Answer::Read)),
                }
            };
            match timeout(API_LIMIT, asked).await.unwrap_or(Err(ApplyError::NoAnswer)) {
                Ok(answer) => answer,
                Err(error) => {
                    debug!(%error, "The writer's Lease was not written");
                    Answer::Nothing
                }
            }
        });
    }

    fn take_in(&mut self, answer: Answer) {
        match answer {
            Answer::Read(lease) => self.saw(lease),
            Answer::Held(lease) => {
                if self.holder() != Holder::Myself {
                    info!(replica = self.run.pod_name, from = ?self.holder(), "This replica writes from now on");
                }
                self.renewed_at = Some(Instant::now());
                self.saw(Some(lease));
            }
            Answer::LetGo(lease) => {
                info!("Without the hub this replica lets another one write");
                self.renewed_at = None;
                self.saw(Some(lease));
            }
            Answer::Nothing => self.lease_is_stale = true,
        }
    }

    fn saw(&mut self, lease: Option<Lease>) {
        let me = self.run.pod_name.as_str();
        let was_mine = lease::holder(self.lease.as_ref()) == Some(me);
        let now = Instant::now();
        self.lease_age.saw(lease.as_ref(), now);
        for (replica, word) in lease.iter().flat_map(leases::words) {
            if let Some(other) = self.others.get_mut(replica) {
                other.read(word, now);
            }
        }
        let holder = lease::holder(lease.as_ref());
        if was_mine && holder.is_some_and(|holder| holder != me) {
            warn!(writer = holder, "Another replica has taken over the writing");
            self.refusals_mislead = true;
            self.renewed_at = None;
        }
        self.lease = lease;
        self.lease_is_stale = false;
    }

    fn publish(&self) {
        let renewed = self.renewed_at.is_some_and(|at| at.elapsed() < LEASE_GIVEN_UP);
        let is_writer = renewed && self.holder() == Holder::Myself;
        let alive = self
            .others
            .iter()
            .filter_map(|(name, other)| Some((name.clone(), other.as_seen(self.evidence(other))?)));
        let seen = PeersSeen {
            is_writer,
            writer: lease::holder(self.lease.as_ref()).map(str::to_owned),
            alive: alive.collect(),
        };
        self.seen.send_if_modified(|before| {
            let changed = *before != seen;
            *before = seen;
            changed
        });
    }

    /// Lets go of the Lease at the end, so that the others need not wait until it expires.
    async fn let_go(mut self) {
        self.asking.shutdown().await;
        let (client, namespace) = (&self.client, &self.run.place.namespace);
        let released = async {
            let lease = lease::read(client, namespace).await.ok().flatten();
            let mine = lease::holder(lease.as_ref()) == Some(self.run.pod_name.as_str());
            match lease.filter(|_| mine) {
                Some(lease) => leases::release(client, namespace, &lease).await.map(drop),
                None => Ok(()),
            }
        };
        if !matches!(timeout(API_LIMIT, released).await, Ok(Ok(()))) {
            debug!("The writer's Lease was not released");
        }
    }
}

impl Other {
    fn of(endpoint: AgentEndpoint, ready: bool, telling: AbortHandle) -> Self {
        Self { endpoint, ready, heard: None, refusals: 0, reached: false, word: None, telling }
    }

    fn learn(&mut self, news: News) {
        match news {
            News::Heard { at, state, .. } => {
                self.heard = Some((at, *state));
                self.refusals = 0;
            }
            News::Reached { .. } => {
                // Whoever answers after a refusal is another process: what was heard before is a dead one's word.
                if self.refusals > 0 {
                    self.heard = None;
                }
                self.refusals = 0;
                self.reached = true;
            }
            News::Refused { .. } => {
                self.refusals = self.refusals.saturating_add(1);
                self.reached = false;
            }
            News::Lost { .. } => self.reached = false,
        }
    }

    fn read(&mut self, word: &str, now: Instant) {
        if self.word.as_ref().is_none_or(|(known, _)| known != word) {
            self.word = Some((word.to_owned(), now));
        }
    }

    /// Returns what the others are told to count on. What a silent replica held is not known any more.
    fn as_seen(&self, evidence: Evidence) -> Option<Replica> {
        let (_, state) = self.heard.as_ref().filter(|_| may_serve(evidence))?;
        let mut state = state.clone();
        if judge(evidence) != Life::Alive {
            state.holds.clear();
            state.linked = false;
        }
        Some(Replica { endpoint: self.endpoint.clone(), state })
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
    use super::*;

    fn other() -> Other {
        let endpoint = AgentEndpoint {
            pod: "agent-2".to_owned(),
            pod_namespace: "fairlead-system".to_owned(),
            pod_uid: String::new(),
            node: "node2".to_owned(),
            ip: [10, 244, 2, 7].into(),
        };
        Other::of(endpoint, true, tokio::spawn(async {}).abort_handle())
    }

    fn heard(at: Instant) -> News {
        let state = Box::new(PeerState { linked: true, ..PeerState::default() });
        News::Heard { replica: "agent-2".to_owned(), at, state }
    }

    fn evidence(other: &Other, now: Instant) -> Evidence {
        Evidence {
            pod_exists: true,
            pod_ready: other.ready,
            silent_for: other.heard.as_ref().map(|(at, _)| now - *at),
            refusals: other.refusals,
            word_for: other.word.as_ref().map(|(_, at)| now - *at),
        }
    }

    #[tokio::test]
    async fn a_restarted_replica_is_not_taken_for_the_one_that_died() {
        let (mut other, now) = (other(), Instant::now());
        other.learn(heard(now));
        assert_eq!(judge(evidence(&other, now)), Life::Alive);
        for _ in 0..3 {
            other.learn(News::Refused { replica: "agent-2".to_owned() });
        }
        assert_eq!(judge(evidence(&other, now)), Life::Dead);
        other.learn(News::Reached { replica: "agent-2".to_owned() });
        assert_eq!(judge(evidence(&other, now)), Life::Silent, "it has said nothing yet");
        assert_eq!(other.as_seen(evidence(&other, now)), None);
        other.learn(heard(now));
        assert_eq!(judge(evidence(&other, now)), Life::Alive);
    }

    #[tokio::test]
    async fn a_silent_replica_keeps_its_place_but_vouches_for_no_laptop() {
        let (mut other, now) = (other(), Instant::now());
        other.learn(heard(now));
        let later = now + super::super::SILENT;
        let seen = other.as_seen(evidence(&other, later)).expect("it is counted on");
        assert!(!seen.state.linked && seen.state.holds.is_empty());
        let much_later = later + Duration::from_secs(60);
        assert_eq!(other.as_seen(evidence(&other, much_later)), None);
        other.read("a word", much_later);
        assert!(other.as_seen(evidence(&other, much_later)).is_some(), "it speaks on the Lease");
        other.read("a word", much_later + Duration::from_secs(60));
        let then = much_later + Duration::from_secs(60);
        assert_eq!(other.as_seen(evidence(&other, then)), None, "the same word is no news");
    }
}
