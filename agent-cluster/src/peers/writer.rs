//! The task that follows the other replicas and the Lease, and publishes who lives and who writes.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use fairlead_model::timers;
use k8s_openapi::api::{coordination::v1::Lease, core::v1::Pod};
use kube::{Api, Client};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::AbortHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{
    Evidence, Holder, LeaseSeen, Life, PeerState, PeersSeen, Replica, judge, link, link::News,
    may_hold,
};
use crate::{
    apply::{ApplyError, leases},
    config::Run,
    enrol::ReplicaKey,
    intercept::{originals, plan::AgentEndpoint},
    names,
    watch::PodsSeen,
};

/// The Lease is read this often: a GET by name, so that its age is known to half a second.
const LEASE_LOOK: Duration = Duration::from_millis(500);
/// A replica that cannot renew for this long must assume that another one writes.
const LEASE_GIVEN_UP: Duration = Duration::from_secs(10);
/// An API that does not answer must not keep the replica from hearing the others.
const API_LIMIT: Duration = Duration::from_millis(1500);
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
    lease_changed_at: Instant,
    renewed_at: Option<Instant>,
    /// Another replica took the Lease from this living one because its address refused us; until both talk again
    /// a refusal is no evidence.
    refusals_mislead: bool,
    stopping: CancellationToken,
}

/// One other replica.
struct Other {
    endpoint: AgentEndpoint,
    exists: bool,
    heard: Option<(Instant, PeerState)>,
    refusals: u32,
    telling: AbortHandle,
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
            lease_changed_at: Instant::now(),
            renewed_at: None,
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
        let mut judge_again = tokio::time::interval(Duration::from_millis(200));
        loop {
            let stopping = self.stopping.clone();
            tokio::select! {
                Some(news) = news_rx.recv() => self.learn(news),
                Ok(()) = self.pods.changed() => self.meet(&news_tx),
                _ = look.tick() => self.look_at_lease().await,
                _ = judge_again.tick() => {}
                () = self.seen.closed() => break,
                () = stopping.cancelled() => break,
            }
            self.elect().await;
            self.publish();
        }
        self.let_go().await;
        hearing.abort();
        for other in self.others.values() {
            other.telling.abort();
        }
    }

    fn learn(&mut self, news: News) {
        match news {
            News::Heard { replica, state } => {
                if let Some(other) = self.others.get_mut(&replica) {
                    other.heard = Some((Instant::now(), *state));
                    other.refusals = 0;
                    self.refusals_mislead = false;
                }
            }
            News::Reached { replica } => {
                if let Some(other) = self.others.get_mut(&replica) {
                    other.refusals = 0;
                }
            }
            News::Refused { replica } => {
                if let Some(other) = self.others.get_mut(&replica) {
                    other.refusals = other.refusals.saturating_add(1);
                }
            }
        }
    }

    /// Brings the list of replicas in line with the agent's pods.
    fn meet(&mut self, news: &mpsc::Sender<News>) {
        let pods = self.pods.borrow_and_update().clone();
        for other in self.others.values_mut() {
            other.exists = pods.pods.get(&other.endpoint.pod).is_some_and(|pod| lives(pod));
        }
        self.others.retain(|_, other| {
            if !other.exists {
                other.telling.abort();
            }
            other.exists
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
            let telling = telling.abort_handle();
            let other = Other { endpoint, exists: true, heard: None, refusals: 0, telling };
            if let Some(before) = self.others.insert(name.clone(), other) {
                before.telling.abort();
            }
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
        judge(Evidence {
            pod_exists: other.exists,
            silent_for: other.heard.as_ref().map(|(at, _)| at.elapsed()),
            refusals: if self.refusals_mislead { 0 } else { other.refusals },
        })
    }

    fn holder(&self) -> Option<&str> {
        let spec = self.lease.as_ref()?.spec.as_ref()?;
        spec.holder_identity.as_deref().filter(|holder| !holder.is_empty())
    }

    async fn look_at_lease(&mut self) {
        let api: Api<Lease> = Api::namespaced(self.client.clone(), &self.run.place.namespace);
        match timeout(API_LIMIT, api.get_opt(names::WRITER_LEASE)).await {
            Err(_) => debug!("The API does not answer"),
            Ok(Ok(lease)) => self.saw(lease),
            Ok(Err(error)) => debug!(%error, "The writer's Lease cannot be read"),
        }
    }

    fn saw(&mut self, lease: Option<Lease>) {
        let was_mine = self.holder() == Some(self.run.pod_name.as_str());
        let version = |lease: &Option<Lease>| {
            lease.as_ref().and_then(|l| l.metadata.resource_version.clone())
        };
        if version(&lease) != version(&self.lease) {
            self.lease_changed_at = Instant::now();
        }
        self.lease = lease;
        if was_mine && self.holder().is_some_and(|holder| holder != self.run.pod_name) {
            warn!(writer = self.holder(), "Another replica has taken over the writing");
            self.refusals_mislead = true;
            self.renewed_at = None;
        }
    }

    /// Takes or renews the Lease when this replica may hold it.
    async fn elect(&mut self) {
        let me = self.run.pod_name.clone();
        let holder = match self.holder() {
            None => Holder::Nobody,
            Some(holder) if holder == me => Holder::Myself,
            Some(holder) => Holder::Other(self.life_of(holder)),
        };
        let fresh = self.renewed_at.is_some_and(|at| at.elapsed() < timers::AGENT_LEASE_RENEWAL);
        if (holder == Holder::Myself && fresh) || !self.pods.borrow().synced {
            return;
        }
        if !may_hold(LeaseSeen { holder, unchanged_for: self.lease_changed_at.elapsed() }) {
            return;
        }
        let taking =
            leases::hold(&self.client, &self.run.place.namespace, self.lease.as_ref(), &me);
        match timeout(API_LIMIT, taking).await.unwrap_or(Err(ApplyError::NoAnswer)) {
            Ok(lease) => {
                if holder != Holder::Myself {
                    info!(replica = me, from = ?holder, "This replica writes from now on");
                }
                self.lease = Some(lease);
                self.lease_changed_at = Instant::now();
                self.renewed_at = Some(Instant::now());
            }
            Err(error) => {
                debug!(%error, "The writer's Lease was not taken");
                self.look_at_lease().await;
            }
        }
    }

    fn publish(&self) {
        let renewed = self.renewed_at.is_some_and(|at| at.elapsed() < LEASE_GIVEN_UP);
        let is_writer = renewed && self.holder() == Some(self.run.pod_name.as_str());
        let alive = self.others.iter().filter(|(name, _)| self.life_of(name) == Life::Alive);
        let alive = alive.filter_map(|(name, other)| {
            let (_, state) = other.heard.as_ref()?;
            Some((name.clone(), Replica { endpoint: other.endpoint.clone(), state: state.clone() }))
        });
        let seen = PeersSeen {
            is_writer,
            writer: self.holder().map(str::to_owned),
            alive: alive.collect(),
            expected: self.others.keys().cloned().collect(),
        };
        self.seen.send_if_modified(|before| {
            let changed = *before != seen;
            *before = seen;
            changed
        });
    }

    async fn let_go(&self) {
        let mine = self.holder() == Some(self.run.pod_name.as_str());
        let Some(lease) = self.lease.as_ref().filter(|_| mine) else { return };
        if let Err(error) = leases::release(&self.client, &self.run.place.namespace, lease).await {
            debug!(%error, "The writer's Lease was not released");
        }
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
