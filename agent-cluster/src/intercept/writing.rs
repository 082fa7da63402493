//! What only the writer does at a look: go over each Service that is wanted, or still carries a mark of ours, and take
//! its next step. What the step should be is decided in `deciding.rs` and `plan.rs`.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
};

use fairlead_model::{Phase, ServiceRef, SessionId};
use jiff::Timestamp;
use tracing::info;

use super::{
    Intercepts, Look,
    assignment::Assignment,
    case::{Case, Removal, Stage},
    deciding::Subject,
    hold::Sight,
    originals,
    plan::{Change, Observed, Plan, Redirect, plan},
    probe,
    work::{self, Job},
};
use crate::{apply::info::Info, watch::Inventory};

const KNOCKS_MAX: usize = 32;

impl Intercepts {
    /// Goes over every Service that concerns us; returns what all replicas have to open.
    pub(super) fn write(&mut self, look: &Look, inventory: &Inventory) -> Vec<Assignment> {
        let wishes = self.wishes();
        let names = self.concerned(&wishes, inventory);
        let mut assignments = Vec::with_capacity(names.len());
        for name in &names {
            let service = inventory.service(name).cloned();
            let key = service.as_ref().and_then(|s| self.owner.session_of(s.sentinel()?));
            let subject = Subject {
                name,
                service,
                slice: inventory.own_slice_of(name).cloned(),
                key,
                published: inventory.published(name),
            };
            let taken = self.taken_by_others(name, &assignments, look, inventory);
            let wish =
                wishes.get(name).copied().filter(|session| self.judge(*session, &subject, look));
            assignments.extend(self.write_one(&subject, wish, &taken, look));
        }
        assignments
    }

    /// Lists the Services that are wanted, are being worked on, or carry a mark of ours.
    fn concerned(
        &self,
        wishes: &BTreeMap<ServiceRef, SessionId>,
        inventory: &Inventory,
    ) -> BTreeSet<ServiceRef> {
        let marked = inventory.services().filter(|service| self.bears_marks(service));
        let mut names: BTreeSet<ServiceRef> =
            marked.map(|service| service.service.clone()).collect();
        names.extend(inventory.own_slices().map(|slice| slice.service.clone()));
        names.extend(wishes.keys().cloned());
        names.extend(self.cases.keys().cloned());
        names
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
        case.settled = false;
        let Ok(redirect) = self.redirect(case, subject, wish, assignment, look) else { return };
        if !case.may_plan(subject.service.as_deref(), subject.slice.as_ref(), look.now) {
            return;
        }
        let mut plan = self.plan(case, subject, redirect.as_ref(), look);
        case.settled = plan.is_settled();
        self.mind_removals(case, subject, &mut plan, look);
        if !plan.changes.is_empty() {
            self.begin(case, subject, redirect, plan.changes, look);
        } else if stands {
            case.settled &= self.is_proven(case, subject, wish, look);
        }
    }

    fn plan(
        &self,
        case: &Case,
        subject: &Subject<'_>,
        redirect: Option<&Redirect>,
        look: &Look,
    ) -> Plan {
        let service = subject.service.as_deref();
        let pods = service
            .and_then(|service| Some(originals::ready(&self.doors.pods(subject.name)?, service)));
        let observed = Observed {
            service,
            slice: subject.slice.as_ref(),
            published: subject.published,
            pods_ready: pods,
            key_unchanged_for: case.key_unchanged_for(look.now),
        };
        plan(observed, redirect, |value| self.owner.session_of(value).is_some())
    }

    /// Has the API asked and, once it has agreed, waits until the replicas have tried the pods.
    fn examine(&mut self, case: &mut Case, subject: &Subject<'_>, session: SessionId, look: &Look) {
        let (Some(service), Some(intercept)) = (&subject.service, look.intercept(session)) else {
            return;
        };
        match case.stage {
            Stage::Fresh if case.may_try(look.now) => {
                case.stage = Stage::Asking;
                self.works.spawn(work::examine(
                    self.client.clone(),
                    Arc::clone(service),
                    self.owner.sentinel(session),
                    intercept.email.clone(),
                    self.run.place.namespace.clone(),
                ));
            }
            Stage::Allowed => match self.reach(session, look.now - case.allowed_at, look) {
                Some(Ok(())) => case.accept(look.now),
                Some(Err(obstacle)) => self.over(session, Phase::Refused, obstacle),
                None => {}
            },
            _ => {}
        }
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

    /// Says whether connections have passed to every port of the laptop; makes probes where none has yet.
    fn is_proven(
        &mut self,
        case: &mut Case,
        subject: &Subject<'_>,
        wish: Option<SessionId>,
        look: &Look,
    ) -> bool {
        let Some(intercept) = wish.and_then(|session| look.intercept(session)) else { return true };
        let Some(cluster_ip) = subject.service.as_ref().and_then(|s| s.cluster_ip) else {
            return true;
        };
        let seen = self.seen_of(case.session, look);
        let ports = intercept.ports.iter().map(|port| port.service_port.get());
        let unproven: Vec<_> =
            ports.filter(|p| !seen.iter().any(|s| s.proven.contains(p))).collect();
        let is_live = seen.iter().any(|seen| seen.sight == Sight::Live);
        if is_live && self.knocks.len() < KNOCKS_MAX && case.may_knock(look.now) {
            for port in &unproven {
                self.knocks.spawn(probe::knock(SocketAddr::new(cluster_ip, *port)));
            }
        }
        unproven.is_empty()
    }
}
