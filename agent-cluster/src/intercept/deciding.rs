//! What the writer decides at a look before it does anything: whether a session goes on, which redirect there should
//! be for its Service, and which replicas are in it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use fairlead_model::{Phase, ServiceRef, SessionId};

use super::{
    Intercepts, Look, any_live,
    assignment::{Assignment, assign},
    case::{Case, Stage},
    hold::{Verdict, verdict},
    plan::Redirect,
    preflight,
};
use crate::{
    names::INTERCEPTED,
    seen::{AgentEndpoint, OwnSlice, Published, ServiceSeen},
    wanted::WantedIntercept,
    watch::Inventory,
};

/// The other replicas have this long to open their doors before the slice is written without them.
const PEERS_PATIENCE: Duration = Duration::from_millis(700);
/// And this long to find out whether they reach the pods.
const REACH_PATIENCE: Duration = preflight::REACH.saturating_add(Duration::from_secs(1));
/// A wanted Service that the watch does not show within this time does not exist.
const SERVICE_PATIENCE: Duration = Duration::from_secs(2);

/// One Service as it is seen at this look, and who wants it.
pub(super) struct Subject<'a> {
    pub(super) name: &'a ServiceRef,
    pub(super) service: Option<Arc<ServiceSeen>>,
    pub(super) slice: Option<OwnSlice>,
    /// The session whose key stands on the Service.
    pub(super) key: Option<SessionId>,
    pub(super) published: Published,
}

impl Subject<'_> {
    pub(super) fn bears_our_marks(&self, intercepts: &Intercepts) -> bool {
        let marked = self.service.as_ref().is_some_and(|service| intercepts.bears_marks(service));
        self.slice.is_some() || marked
    }
}

/// A decision that has to wait for the next look.
pub(super) struct NotYet;

impl Intercepts {
    /// Says whether key, label or a leftover entry in `managedFields` shows that this agent has been here.
    pub(super) fn bears_marks(&self, service: &ServiceSeen) -> bool {
        let ours = |value: &str| self.owner.session_of(value).is_some();
        let value = service.sentinel().or(service.labels.get(INTERCEPTED).map(String::as_str));
        value.is_some_and(ours) || service.bears_our_manager
    }

    /// Returns the session to be served for each Service: the oldest one, should the hub ever want two.
    pub(super) fn wishes(&self) -> BTreeMap<ServiceRef, SessionId> {
        let mut wishes = BTreeMap::new();
        for (session, known) in &self.sessions {
            wishes.entry(known.service.clone()).or_insert(*session);
        }
        wishes
    }

    /// Ports at which a listener of another Service stands on any replica, or soon will; lingering ones included.
    pub(super) fn taken_by_others(
        &self,
        name: &ServiceRef,
        assigned: &[Assignment],
        look: &Look,
        inventory: &Inventory,
    ) -> BTreeSet<u16> {
        let mut taken = self.doors.taken_except(name);
        let before = self.wires.state.borrow();
        let others = before.assignments.iter().chain(assigned).filter(|a| a.service != *name);
        taken.extend(others.flat_map(|a| a.listens_on()));
        let peers = look.peers.alive.values().flat_map(|replica| replica.state.listening.iter());
        taken.extend(peers.filter(|(of, _)| of != name).flat_map(|(_, ports)| ports));
        let slices = inventory.own_slices().filter(|slice| slice.service != *name);
        taken.extend(slices.flat_map(|slice| slice.ports.iter().map(|port| port.listen)));
        taken
    }

    /// Says whether a wanted session goes on; ends it when its laptop is lost or the Service cannot be served.
    pub(super) fn judge(&mut self, session: SessionId, subject: &Subject<'_>, look: &Look) -> bool {
        let Some(intercept) = look.intercept(session) else { return false };
        let over = match self.verdict_on(session, intercept, look) {
            Verdict::Lost => Some((Phase::Ended, "lost".to_owned())),
            Verdict::Absent => Some((Phase::Ended, "lost: the laptop never connected".to_owned())),
            _ => self.unservable(session, intercept, subject, look),
        };
        let Some((phase, detail)) = over else { return true };
        self.over(session, phase, detail);
        false
    }

    pub(super) fn verdict_on(
        &self,
        session: SessionId,
        intercept: &WantedIntercept,
        look: &Look,
    ) -> Verdict {
        let Some(known) = self.sessions.get(&session) else { return Verdict::Waiting };
        verdict(
            any_live(session, &self.wires.holds, &look.peers),
            known.live_at.map(|at| look.now - at),
            look.now - known.wanted_since,
            intercept.grace,
        )
    }

    /// Says why a Service cannot be served: asked before anything is changed, and again at every look, because owners
    /// may change a Service while it is intercepted.
    fn unservable(
        &self,
        session: SessionId,
        intercept: &WantedIntercept,
        subject: &Subject<'_>,
        look: &Look,
    ) -> Option<(Phase, String)> {
        let name = subject.name;
        let case = self.cases.get(name);
        let begun = subject.key == Some(session)
            || case
                .is_some_and(|case| case.session == Some(session) && case.stage == Stage::Accepted);
        let Some(service) = &subject.service else {
            let waited = self.sessions.get(&session).map(|known| look.now - known.wanted_since)?;
            return match begun {
                true => Some((Phase::Ended, format!("{name} was deleted."))),
                false if waited < SERVICE_PATIENCE => None,
                false => Some((Phase::Refused, format!("{name} does not exist in this cluster."))),
            };
        };
        let foreign = service.sentinel().filter(|value| self.owner.session_of(value).is_none());
        if let Some(value) = foreign {
            let phase = if begun { Phase::Contested } else { Phase::Refused };
            return Some((phase, preflight::foreign(name, value, begun)));
        }
        let reason = preflight::refusal(service, self.me.ip.is_ipv6())
            .or_else(|| preflight::missing_port(service, &intercept.ports))?;
        Some((if begun { Phase::Ended } else { Phase::Refused }, reason))
    }

    pub(super) fn assignment(
        &self,
        subject: &Subject<'_>,
        session: Option<SessionId>,
        taken: &BTreeSet<u16>,
    ) -> Assignment {
        let before = self.wires.state.borrow();
        let before = before.assignments.iter().find(|a| a.service == *subject.name);
        let standing: Vec<(String, u16)> = match (&subject.slice, before) {
            (Some(slice), _) => slice.ports.iter().map(|p| (p.name.clone(), p.listen)).collect(),
            (None, Some(before)) => {
                before.ports.iter().map(|p| (p.name.clone(), p.listen)).collect()
            }
            (None, None) => Vec::new(),
        };
        let ports = subject.service.as_ref().map(|service| assign(service, &standing, taken));
        Assignment { service: subject.name.clone(), session, ports: ports.unwrap_or_default() }
    }

    /// Returns the redirect that should be, or none; `Err` when that cannot be said yet.
    pub(super) fn redirect(
        &self,
        case: &Case,
        subject: &Subject<'_>,
        wish: Option<SessionId>,
        assignment: &Assignment,
        look: &Look,
    ) -> Result<Option<Redirect>, NotYet> {
        let Some(session) = wish.or_else(|| self.unconfirmed(subject, look)) else {
            return Ok(None);
        };
        if wish.is_some() && case.stage != Stage::Accepted {
            return if subject.bears_our_marks(self) { Ok(None) } else { Err(NotYet) };
        }
        let stands = subject.key == Some(session);
        if !stands && !any_live(session, &self.wires.holds, &look.peers) {
            return Err(NotYet);
        }
        let endpoints = self.endpoints(assignment, look);
        if endpoints.is_empty() {
            return if self.is_stopping() { Ok(None) } else { Err(NotYet) };
        }
        let waited = look.now - case.accepted_at;
        let mut peers = look.peers.alive.values().filter(|replica| !replica.state.draining);
        let is_missing = peers.any(|replica| !endpoints.contains(&replica.endpoint));
        if subject.slice.is_none() && is_missing && waited < PEERS_PATIENCE {
            return Err(NotYet);
        }
        let sentinel = self.owner.sentinel(session);
        Ok(Some(Redirect { sentinel, ports: assignment.slice_ports(), endpoints }))
    }

    /// Returns what the replicas found out about the pods of `session`'s Service: an obstacle of any of them, or that
    /// there is none; `None` while somebody still tries.
    pub(super) fn reach(
        &self,
        session: SessionId,
        waited: Duration,
        look: &Look,
    ) -> Option<Result<(), String>> {
        let mine = self.doors.reach(session);
        let peers = look.peers.alive.values().filter(|replica| !replica.state.draining);
        let theirs: Vec<_> = peers.map(|replica| replica.state.reach(session)).collect();
        let found = theirs.iter().flatten().copied().chain(&mine);
        if let Some(obstacle) = found.into_iter().find_map(|found| found.obstacle.clone()) {
            return Some(Err(obstacle));
        }
        let peers_know = theirs.iter().all(Option::is_some);
        let all_know = mine.is_some() && (peers_know || waited >= REACH_PATIENCE);
        all_know.then_some(Ok(()))
    }

    /// Returns the session of a key that the hub may still confirm: it is kept standing for a while after a start.
    fn unconfirmed(&self, subject: &Subject<'_>, look: &Look) -> Option<SessionId> {
        let asked = look.wanted.is_none() && self.started_at.elapsed() < super::CONFIRMATION;
        subject.key.filter(|_| asked && !self.is_stopping())
    }

    /// Lists the replicas that listen for this Service and are not about to stop.
    fn endpoints(&self, assignment: &Assignment, look: &Look) -> Vec<AgentEndpoint> {
        let ports = assignment.listens_on();
        if ports.is_empty() {
            return Vec::new();
        }
        let listens = |replica: &&crate::peers::Replica| {
            !replica.state.draining && replica.state.listens(&assignment.service, &ports)
        };
        let mut endpoints: Vec<_> =
            look.peers.alive.values().filter(listens).map(|r| r.endpoint.clone()).collect();
        if !self.is_stopping() && self.doors.listens(&assignment.service, &ports) {
            endpoints.push(self.me.clone());
        }
        endpoints.sort();
        endpoints
    }
}
