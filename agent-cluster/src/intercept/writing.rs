//! What only the writer does at a look: decide for each Service that is wanted, or still carries a mark of ours.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use fairlead_model::{Phase, ServiceRef, SessionId};
use jiff::Timestamp;
use tracing::info;

use super::{
    Intercepts, Look, any_live,
    case::{Case, Removal, Stage},
    doors::{Assignment, assign},
    hold::{Sight, Verdict, verdict},
    plan::{AgentEndpoint, Change, Observed, Plan, Redirect, plan},
    preflight, probe,
    work::{self, Job},
};
use crate::{
    apply::services::Info,
    names::INTERCEPTED,
    wanted::WantedIntercept,
    watch::{Inventory, OwnSlice, ServiceSeen},
};

/// The other replicas have this long to open their doors before the slice is written without them.
const PEERS_PATIENCE: Duration = Duration::from_millis(700);
/// A wanted Service that the watch does not show within this time does not exist.
const SERVICE_PATIENCE: Duration = Duration::from_secs(2);
const KNOCKS_MAX: usize = 32;

/// One Service as it is seen at this look, and who wants it.
struct Subject<'a> {
    name: &'a ServiceRef,
    service: Option<Arc<ServiceSeen>>,
    slice: Option<OwnSlice>,
    /// The session whose key stands on the Service.
    key: Option<SessionId>,
    originals_ready: usize,
}

impl Subject<'_> {
    fn bears_our_marks(&self, intercepts: &Intercepts) -> bool {
        let label = self.service.as_ref().and_then(|s| s.labels.get(INTERCEPTED));
        let label_is_ours = label.is_some_and(|value| intercepts.owner.session_of(value).is_some());
        self.slice.is_some() || self.key.is_some() || label_is_ours
    }
}

impl Intercepts {
    /// Goes over every Service that concerns us; returns what all replicas have to open.
    pub(super) fn write(&mut self, look: &Look, inventory: &Inventory) -> Vec<Assignment> {
        let wishes = self.wishes();
        let marked = inventory.services().filter(|service| {
            let value = service.sentinel().or(service.labels.get(INTERCEPTED).map(String::as_str));
            value.is_some_and(|value| self.owner.session_of(value).is_some())
        });
        let mut names: BTreeSet<ServiceRef> =
            marked.map(|service| service.service.clone()).collect();
        names.extend(inventory.own_slices().map(|slice| slice.service.clone()));
        names.extend(wishes.keys().cloned());
        names.extend(self.cases.keys().cloned());
        let mut assignments = Vec::with_capacity(names.len());
        for name in &names {
            let service = inventory.service(name).cloned();
            let key = service.as_ref().and_then(|s| self.owner.session_of(s.sentinel()?));
            let subject = Subject {
                name,
                service,
                slice: inventory.own_slice_of(name).cloned(),
                key,
                originals_ready: inventory.ready_endpoints(name),
            };
            let taken = self.taken_by_others(name, &assignments, inventory);
            let wish =
                wishes.get(name).copied().filter(|session| self.judge(*session, &subject, look));
            assignments.extend(self.write_one(&subject, wish, &taken, look));
        }
        assignments
    }

    /// Returns the session to be served for each Service: the oldest one, should the hub ever want two.
    pub(super) fn wishes(&self) -> BTreeMap<ServiceRef, SessionId> {
        let mut wishes = BTreeMap::new();
        for (session, known) in &self.sessions {
            wishes.entry(known.service.clone()).or_insert(*session);
        }
        wishes
    }

    fn taken_by_others(
        &self,
        name: &ServiceRef,
        assigned: &[Assignment],
        inventory: &Inventory,
    ) -> BTreeSet<u16> {
        let mut taken = self.doors.taken_except(name);
        let before = self.wires.state.borrow();
        let others = before.assignments.iter().chain(assigned).filter(|a| a.service != *name);
        taken.extend(others.flat_map(|a| a.listens_on()));
        let slices = inventory.own_slices().filter(|slice| slice.service != *name);
        taken.extend(slices.flat_map(|slice| slice.ports.iter().map(|port| port.listen)));
        taken
    }

    /// Says whether a wanted session goes on; ends it when its laptop is lost or the Service cannot be served.
    fn judge(&mut self, session: SessionId, subject: &Subject<'_>, look: &Look) -> bool {
        let Some(intercept) = look.intercept(session) else { return false };
        let fresh = self.cases.get(subject.name).is_none_or(|case| case.stage == Stage::Fresh);
        let over = match self.verdict_on(session, intercept, look) {
            Verdict::Lost => Some((Phase::Ended, "lost".to_owned())),
            Verdict::Absent => Some((Phase::Ended, "lost: the laptop never connected".to_owned())),
            _ => self.unservable(session, intercept, subject, fresh, look),
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

    fn unservable(
        &self,
        session: SessionId,
        intercept: &WantedIntercept,
        subject: &Subject<'_>,
        fresh: bool,
        look: &Look,
    ) -> Option<(Phase, String)> {
        let name = subject.name;
        let Some(service) = &subject.service else {
            let waited = self.sessions.get(&session).map(|known| look.now - known.wanted_since)?;
            return match fresh {
                true if waited < SERVICE_PATIENCE => None,
                true => Some((Phase::Refused, format!("{name} does not exist in this cluster."))),
                false => Some((Phase::Ended, format!("{name} was deleted."))),
            };
        };
        if !fresh || subject.key == Some(session) {
            return None;
        }
        if let Some(reason) = preflight::refusal(service, self.me.ip.is_ipv6()) {
            return Some((Phase::Refused, reason));
        }
        let has = |port: u16| service.ports.iter().any(|p| p.port == port);
        let missing = intercept.ports.iter().find(|port| !has(port.service_port.get()))?;
        let ports: Vec<_> = service.ports.iter().map(|port| port.port.to_string()).collect();
        let ports = ports.join(", ");
        Some((
            Phase::Refused,
            format!("{name} has no port {}. It has: {ports}.", missing.service_port),
        ))
    }

    fn write_one(
        &mut self,
        subject: &Subject<'_>,
        wish: Option<SessionId>,
        taken: &BTreeSet<u16>,
        look: &Look,
    ) -> Option<Assignment> {
        if wish.is_none() && !subject.bears_our_marks(self) {
            let under_way = self.cases.get(subject.name).is_some_and(|case| case.busy);
            if !under_way {
                self.cases.remove(subject.name);
            }
            return None;
        }
        let mut case = self.cases.remove(subject.name).unwrap_or_else(|| Case::new(wish, look.now));
        if case.session != wish && !case.busy {
            case = Case::new(wish, look.now);
        }
        let assignment = self.assignment(subject, wish, taken);
        self.advance(&mut case, subject, wish, &assignment, look);
        self.cases.insert(subject.name.clone(), case);
        Some(assignment)
    }

    fn assignment(
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

    /// Takes the next step for one Service, if there is one to take.
    fn advance(
        &mut self,
        case: &mut Case,
        subject: &Subject<'_>,
        wish: Option<SessionId>,
        assignment: &Assignment,
        look: &Look,
    ) {
        let stands = wish.is_some() && subject.key == wish;
        case.saw_key(if wish.is_some() { stands } else { subject.key.is_some() }, look.now);
        if stands && case.stage == Stage::Fresh {
            case.accept(look.now);
        }
        if let Some(session) = wish {
            self.examine(case, subject, session, look);
        }
        let Ok(redirect) = self.redirect(case, subject, wish, assignment, look) else { return };
        if !case.may_plan(subject.service.as_deref(), subject.slice.as_ref(), look.now) {
            return;
        }
        let observed = Observed {
            service: subject.service.as_deref(),
            slice: subject.slice.as_ref(),
            originals_ready: subject.originals_ready,
            without_key_for: case.without_key_for(look.now),
        };
        let mut plan =
            plan(observed, redirect.as_ref(), |value| self.owner.session_of(value).is_some());
        self.mind_removals(case, subject, &mut plan, look);
        if !plan.changes.is_empty() {
            self.begin(case, subject, redirect, plan.changes, look);
        } else if stands {
            self.knock(case, subject, wish, look);
        }
    }

    fn examine(&mut self, case: &mut Case, subject: &Subject<'_>, session: SessionId, look: &Look) {
        let (Stage::Fresh, false) = (case.stage, case.busy) else { return };
        let (Some(service), Some(intercept)) = (&subject.service, look.intercept(session)) else {
            return;
        };
        let Some(pods) = self.doors.pods(subject.name) else { return };
        case.stage = Stage::Examining;
        self.works.spawn(work::examine(
            self.client.clone(),
            self.owner.clone(),
            Arc::clone(service),
            self.owner.sentinel(session),
            intercept.email.clone(),
            self.run.place.namespace.clone(),
            pods,
        ));
    }

    /// Returns the redirect that should be, or none; `Err` when that cannot be said yet.
    fn redirect(
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
        let waits_for_peers = look
            .peers
            .alive
            .values()
            .any(|replica| !replica.state.draining && !endpoints.contains(&replica.endpoint));
        if endpoints.is_empty() {
            return if self.is_stopping() { Ok(None) } else { Err(NotYet) };
        }
        if subject.slice.is_none()
            && waits_for_peers
            && look.now - case.accepted_at < PEERS_PATIENCE
        {
            return Err(NotYet);
        }
        let sentinel = self.owner.sentinel(session);
        Ok(Some(Redirect { sentinel, ports: assignment.slice_ports(), endpoints }))
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

    /// Gives way for a moment when somebody else took the key off, and for good when it happens again and again.
    fn mind_removals(
        &mut self,
        case: &mut Case,
        subject: &Subject<'_>,
        plan: &mut Plan,
        look: &Look,
    ) {
        if !plan.changes.contains(&Change::AddKey) {
            return;
        }
        match case.removal(look.now) {
            Removal::AddAgain => {}
            Removal::AddLater => plan.changes.retain(|change| *change != Change::AddKey),
            Removal::Contested => {
                plan.changes.clear();
                case.busy = true;
                self.works.spawn(work::blame(self.client.clone(), subject.name.clone()));
            }
        }
    }

    fn begin(
        &mut self,
        case: &mut Case,
        subject: &Subject<'_>,
        redirect: Option<Redirect>,
        changes: Vec<Change>,
        look: &Look,
    ) {
        info!(service = %subject.name, ?changes, "Changing the redirect of {}", subject.name);
        case.busy = true;
        let by = case.session.and_then(|session| look.intercept(session)).map(|i| i.email.clone());
        self.works.spawn(work::carry_out(Job {
            client: self.client.clone(),
            owner: self.owner.clone(),
            name: subject.name.clone(),
            service: subject.service.clone(),
            slice: subject.slice.clone(),
            redirect,
            info: Info {
                by: by.unwrap_or_default(),
                since: Timestamp::now(),
                agent_namespace: self.run.place.namespace.clone(),
            },
            changes,
        }));
    }

    /// Makes a probe where no connection has proved the path yet.
    fn knock(
        &mut self,
        case: &mut Case,
        subject: &Subject<'_>,
        wish: Option<SessionId>,
        look: &Look,
    ) {
        let Some(intercept) = wish.and_then(|session| look.intercept(session)) else { return };
        let Some(cluster_ip) = subject.service.as_ref().and_then(|s| s.cluster_ip) else { return };
        let seen = self.seen_of(case.session, look);
        if !seen.iter().any(|seen| seen.sight == Sight::Live) {
            return;
        }
        let ports = intercept.ports.iter().map(|port| port.service_port.get());
        let unproven: Vec<_> =
            ports.filter(|p| !seen.iter().any(|s| s.proven.contains(p))).collect();
        if unproven.is_empty() || self.knocks.len() >= KNOCKS_MAX || !case.may_knock(look.now) {
            return;
        }
        for port in unproven {
            self.knocks.spawn(probe::knock(SocketAddr::new(cluster_ip, port)));
        }
    }
}

/// A decision that has to wait for the next look.
struct NotYet;
