//! Intercepts: the loop that compares what the hub wants with what the cluster shows, on every replica.
//!
//! Each replica opens the doors the writer assigned and tells the others what it sees. The writer alone changes the
//! cluster: it examines, redirects, follows other people's writes, judges whether the laptop is lost, and gives
//! back. Ending is no path of its own: a Service with nothing wanted is planned for like any other.

pub(crate) mod assignment;
mod case;
mod deciding;
pub(crate) mod doors;
pub(crate) mod hold;
pub(crate) mod holds;
pub(crate) mod lanes;
mod listener;
#[cfg(test)]
mod looks;
mod observing;
pub(crate) mod originals;
mod outcomes;
pub(crate) mod plan;
#[cfg(test)]
mod plans;
pub(crate) mod preflight;
mod probe;
pub(crate) mod traffic;
mod work;
mod writing;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use fairlead_model::{Phase, ServiceRef, SessionId};
use kube::Client;
use tokio::{
    sync::{oneshot, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::{
    assignment::Assignment, case::Case, doors::Doors, holds::Holds, traffic::Traffic, work::Done,
};
use crate::{
    config::Run,
    names::Owner,
    peers::{PeerState, PeersSeen},
    report::Observed,
    seen::AgentEndpoint,
    wanted::{Wanted, WantedIntercept},
    watch::Inventory,
};

/// After a start the hub has this long to confirm what the cluster still shows; meanwhile it is kept standing.
const CONFIRMATION: Duration = Duration::from_secs(15);
/// Deadlines are looked at this often while anything is under way, and this often when nothing is: then whatever
/// happens rings.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
const LOOK_ANYWAY: Duration = Duration::from_secs(2);
/// A replica that stops gives up waiting for its endpoints to leave after this long.
const DRAIN: Duration = Duration::from_secs(20);
/// An ended session is remembered at least this long, so that its end is told.
const ENDED_KEPT: Duration = Duration::from_secs(60);

/// What the loop reads and writes; wired up in `assemble.rs`.
pub(crate) struct Wires {
    pub(crate) inventory: watch::Receiver<Inventory>,
    pub(crate) wanted: watch::Receiver<Option<Arc<Wanted>>>,
    pub(crate) peers: watch::Receiver<PeersSeen>,
    pub(crate) holds: Holds,
    pub(crate) state: watch::Sender<PeerState>,
    pub(crate) observed: watch::Sender<Observed>,
    pub(crate) originals: watch::Sender<originals::Counts>,
    /// Whether the hub has this replica's ear.
    pub(crate) linked: watch::Receiver<bool>,
    pub(crate) stopping: CancellationToken,
}

pub(crate) struct Intercepts {
    client: Client,
    owner: Owner,
    run: Arc<Run>,
    me: AgentEndpoint,
    wires: Wires,
    doors: Doors,
    cases: BTreeMap<ServiceRef, Case>,
    sessions: BTreeMap<SessionId, Known>,
    ended: BTreeMap<SessionId, EndedSession>,
    works: JoinSet<Done>,
    knocks: JoinSet<()>,
    /// The connections that go through this replica.
    traffic: watch::Sender<Traffic>,
    started_at: Instant,
    stopping_since: Option<Instant>,
    /// Nothing leads here any more. What was last seen of the Lease says nothing about who writes from now on.
    has_let_go: bool,
}

/// What is remembered of a session that is wanted.
struct Known {
    service: ServiceRef,
    wanted_since: Instant,
    live_at: Option<Instant>,
}

/// A session that is over here, whatever the hub still wants.
struct EndedSession {
    service: ServiceRef,
    phase: Phase,
    detail: String,
    at: Instant,
}

/// What every look needs, read once at its beginning.
struct Look {
    now: Instant,
    wanted: Option<Arc<Wanted>>,
    peers: PeersSeen,
    agents: Arc<BTreeSet<IpAddr>>,
}

impl Look {
    fn intercept(&self, session: SessionId) -> Option<&WantedIntercept> {
        self.wanted.as_ref()?.intercepts.get(&session)
    }
}

impl Intercepts {
    pub(crate) fn new(
        client: Client,
        run: Arc<Run>,
        wires: Wires,
        traffic: watch::Sender<Traffic>,
    ) -> Self {
        let me = AgentEndpoint {
            pod: run.pod_name.clone(),
            pod_namespace: run.place.namespace.clone(),
            pod_uid: run.pod_uid.clone(),
            node: run.node_name.clone(),
            ip: run.pod_ip,
        };
        Self {
            owner: run.place.owner(),
            doors: Doors::new(client.clone(), run.pod_name.clone(), wires.originals.clone()),
            client,
            run,
            me,
            wires,
            cases: BTreeMap::new(),
            sessions: BTreeMap::new(),
            ended: BTreeMap::new(),
            works: JoinSet::new(),
            knocks: JoinSet::new(),
            traffic,
            started_at: Instant::now(),
            stopping_since: None,
            has_let_go: false,
        }
    }

    /// Runs until this replica has been stopped and nothing in the cluster leads to it any more; then says so and
    /// goes on carrying what is still open until the process ends.
    pub(crate) async fn run(mut self, drained: oneshot::Sender<()>) {
        let mut drained = Some(drained);
        loop {
            let stopping = self.wires.stopping.clone();
            let pause = if self.is_at_rest() { LOOK_ANYWAY } else { LOOK_AGAIN };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = self.wires.inventory.changed() => {}
                _ = self.wires.wanted.changed() => {}
                Ok(()) = self.wires.peers.changed() => {}
                Ok(()) = self.wires.linked.changed() => {}
                () = self.wires.holds.changed() => {}
                () = self.doors.changed() => {}
                Some(done) = self.works.join_next() => self.finished(done),
                Some(_) = self.knocks.join_next() => {}
                () = stopping.cancelled(), if self.stopping_since.is_none() => {
                    info!("This replica stops: its endpoints leave first");
                    self.stopping_since = Some(Instant::now());
                }
            }
            self.look();
            self.traffic.send_replace(self.doors.traffic());
            if self.is_drained()
                && let Some(drained) = drained.take()
            {
                self.has_let_go = true;
                let _waiting = drained.send(());
            }
        }
    }

    /// One comparison of what should be with what is. Never waits: changes are made by tasks of their own.
    fn look(&mut self) {
        let inventory = self.wires.inventory.clone();
        let inventory = inventory.borrow();
        if !inventory.synced() {
            return;
        }
        let mut peers = self.wires.peers.borrow_and_update().clone();
        peers.is_writer &= !self.has_let_go;
        let mut agents: BTreeSet<IpAddr> = peers.alive.values().map(|r| r.endpoint.ip).collect();
        agents.insert(self.me.ip);
        let look = Look {
            now: Instant::now(),
            wanted: self.wires.wanted.borrow_and_update().clone(),
            peers,
            agents: Arc::new(agents),
        };
        self.remember_sessions(&look);
        let assignments = if look.peers.is_writer {
            self.write(&look, &inventory)
        } else {
            self.cases.clear();
            self.assigned_by_the_writer(&look)
        };
        self.open_doors(&assignments, &look, &inventory);
        self.publish(assignments, &look, &inventory);
    }

    /// Says whether nothing here waits for a moment to come: every session has its laptop and its redirect, and nobody
    /// is on the way out.
    fn is_at_rest(&self) -> bool {
        let holds = self.wires.holds.seen();
        let is_live = |session: &SessionId| {
            holds.iter().any(|(of, seen)| of == session && seen.sight == hold::Sight::Live)
        };
        !self.is_stopping()
            && self.wires.wanted.borrow().is_some()
            && self.sessions.keys().all(is_live)
            && self.cases.values().all(|case| case.settled)
            && self.ended.is_empty()
            && !self.doors.any_lingers()
    }

    fn is_stopping(&self) -> bool {
        self.stopping_since.is_some()
    }

    /// Follows which sessions should be, when their laptops were last seen, and which are over.
    fn remember_sessions(&mut self, look: &Look) {
        let Some(wanted) = look.wanted.clone() else { return };
        let gone: Vec<_> =
            self.sessions.keys().filter(|s| !wanted.intercepts.contains_key(s)).copied().collect();
        for session in gone {
            self.over(session, Phase::Ended, String::new());
        }
        for (session, intercept) in &wanted.intercepts {
            if !self.ended.contains_key(session) {
                self.sessions.entry(*session).or_insert_with(|| Known {
                    service: intercept.service.clone(),
                    wanted_since: look.now,
                    live_at: None,
                });
            }
        }
        // A replica that lost the hub forgets in the end what it wants; whoever still hears the hub knows better.
        let linked = *self.wires.linked.borrow_and_update();
        for replica in look.peers.alive.values().filter(|r| r.state.linked || !linked) {
            for session in &replica.state.ended {
                self.over(*session, Phase::Ended, String::new());
            }
        }
        self.ended.retain(|session, ended| {
            wanted.intercepts.contains_key(session) || look.now - ended.at < ENDED_KEPT
        });
        let sessions = &self.sessions;
        self.wires.holds.retain(|session| sessions.contains_key(&session));
        // The way to a laptop leads through the hub: while no replica hears it, pods answer, and no laptop is missed.
        let hub_is_away = !linked && !look.peers.alive.values().any(|r| r.state.linked);
        for (session, known) in &mut self.sessions {
            let is_unreachable = hub_is_away && known.live_at.is_some();
            if is_unreachable || any_live(*session, &self.wires.holds, &look.peers) {
                known.live_at = Some(look.now);
            }
        }
    }

    /// Remembers that a session is over here, whatever the hub still wants.
    fn over(&mut self, session: SessionId, phase: Phase, detail: String) {
        let Some(known) = self.sessions.remove(&session) else { return };
        info!(%session, service = %known.service, ?phase, detail, "An intercept of {} is over", known.service);
        let ended = EndedSession { service: known.service, phase, detail, at: Instant::now() };
        self.ended.insert(session, ended);
    }

    fn assigned_by_the_writer(&self, look: &Look) -> Vec<Assignment> {
        let writer = look.peers.writer.as_ref().and_then(|name| look.peers.alive.get(name));
        match writer {
            Some(writer) => writer.state.assignments.clone(),
            // Between two writers everything stays as it was.
            None => self.wires.state.borrow().assignments.clone(),
        }
    }

    fn open_doors(&mut self, assignments: &[Assignment], look: &Look, inventory: &Inventory) {
        for assignment in assignments {
            let Some(service) = inventory.service(&assignment.service) else { continue };
            let session = assignment.session.filter(|session| self.sessions.contains_key(session));
            let hold = session.and_then(|session| {
                let intercept = look.intercept(session)?;
                Some((self.wires.holds.of(session), intercept.ports.as_slice()))
            });
            let hold = hold.as_ref().map(|(hold, ports)| (hold, *ports));
            self.doors.keep(assignment, service, hold, &look.agents);
        }
        self.doors.retain(&assignments.iter().map(|a| &a.service).collect());
    }

    fn publish(&self, assignments: Vec<Assignment>, look: &Look, inventory: &Inventory) {
        let state = PeerState {
            assignments,
            listening: self.doors.listening(),
            holds: self.wires.holds.seen(),
            ended: self.ended.keys().copied().collect(),
            reached: self.doors.reached(),
            linked: *self.wires.linked.borrow(),
            draining: self.is_stopping(),
        };
        self.wires.state.send_if_modified(|before| {
            let changed = *before != state;
            *before = state;
            changed
        });
        let observed =
            if look.peers.is_writer { self.observe(look, inventory) } else { Observed::new() };
        self.wires.observed.send_if_modified(|before| {
            let changed = *before != observed;
            *before = observed;
            changed
        });
    }

    /// Says whether nothing in the cluster leads here any more, or waiting for that has become pointless.
    fn is_drained(&self) -> bool {
        let Some(since) = self.stopping_since else { return false };
        if since.elapsed() >= DRAIN {
            warn!("Endpoints of this replica are still listed; it stops all the same");
            return true;
        }
        let inventory = self.wires.inventory.borrow();
        let listed = inventory.own_slices().any(|slice| slice.endpoints.contains(&self.me));
        let alone = !self.wires.peers.borrow().alive.values().any(|r| !r.state.draining);
        let ours = |value: &str| self.owner.session_of(value).is_some();
        let keyed = inventory.services().any(|service| service.sentinel().is_some_and(ours));
        !listed && self.works.is_empty() && (!alone || !keyed)
    }

    fn finished(&mut self, done: Result<Done, tokio::task::JoinError>) {
        match done {
            Ok(done) => self.take_in(done),
            Err(error) => warn!(%error, "A change of the cluster did not come to its end"),
        }
    }
}

fn any_live(session: SessionId, holds: &Holds, peers: &PeersSeen) -> bool {
    let mine = holds.seen().into_iter().find(|(of, _)| *of == session).map(|(_, seen)| seen);
    let theirs = peers.alive.values().filter_map(|replica| replica.state.hold(session));
    mine.iter().chain(theirs).any(|seen| seen.sight == hold::Sight::Live)
}
