//! Decides again about a live session: because something it was decided on has changed, or because its grant is to be
//! renewed.
//!
//! A consume follows the catalogue: what is new is decided and added, what is gone is taken out. But one that lost any of
//! its services by a policy ends as a whole. To take one service out of a grant that a laptop already holds, the old
//! grant would have to be recalled from every agent; an ended session is recalled by its name. What is gone needs no
//! recall, since nobody reaches what is not there; when it comes back it is decided again. Hosts outside the cluster are
//! never gone: the catalogue says nothing of them.

use std::collections::{BTreeMap, BTreeSet};

use fairlead_model::{
    ExternalHost, InterceptPort, Patterns, ServicePort, ServiceRef, timers::GRANT_LIFE,
};
use hub_policy::{
    Caller, Denied, Facts, Permit,
    actions::{Consume, Intercept, Reach, ReachExternal},
    decide, decide_each,
};
use hub_store::{Granted, GrantedService, Held, Service, Session, StoreError, Wanted};
use tokio::time::Instant;

use super::{ActionError, consume};
use crate::Hub;

/// What became of the session.
#[derive(Debug)]
pub enum Reconsidered {
    /// It may go on; `changed` when what it may reach is not what it was, or is called otherwise.
    Stands {
        granted: Granted,
        changed: bool,
        policy_version: u64,
    },
    Ended {
        reason: String,
    },
}

impl Reconsidered {
    /// Lets the laptop hear of new pods, though nothing was decided anew.
    fn or_changed(self, has_moved: bool) -> Self {
        match self {
            Self::Stands { granted, changed, policy_version } => {
                Self::Stands { granted, changed: changed || has_moved, policy_version }
            }
            ended @ Self::Ended { .. } => ended,
        }
    }
}

/// Decides again with everything as it is at this moment. It takes a turn of the session.
pub(super) async fn reconsider(hub: &Hub, session: &Session) -> Result<Reconsidered, ActionError> {
    let scope = hub.store.scoped(session.org);
    let Some(mut caller) = scope.caller_of(session.user).await? else {
        return end(hub, session, "the user is no longer a member").await;
    };
    let Some(device) = scope.device(session.device).await? else {
        return end(hub, session, "the device was removed").await;
    };
    if !scope.is_signed_in(&device, hub.clock.now()).await? {
        return end(hub, session, "the laptop was signed out").await;
    }
    if let Some(reason) = scope.teamspace(session.teamspace).await?.lock_reason {
        return end(hub, session, &format!("the teamspace is locked: {reason}")).await;
    }
    caller.from = session.begun_from.as_ref().and_then(|text| text.parse().ok());
    let facts = hub.facts(&caller).await?;
    match &session.wanted {
        Wanted::Consume { patterns } => {
            again_consume(hub, session, patterns, &caller, &facts).await
        }
        Wanted::Intercept { service, ports, grace_s } => {
            let again = Again { service, ports, grace_s: *grace_s };
            again_intercept(hub, session, &again, &caller, &facts).await
        }
    }
}

async fn again_consume(
    hub: &Hub,
    session: &Session,
    patterns: &Patterns,
    caller: &Caller,
    facts: &Facts,
) -> Result<Reconsidered, ActionError> {
    let scope = hub.store.scoped(session.org);
    let catalogue = scope.services(session.teamspace).await?;
    let store = hub.store.unscoped("the pods of what the session may reach");
    let has_moved = store.session_pods_follow(session).await?;
    let held = scope.held(session.id, hub.clock.now() - GRANT_LIFE).await?;
    let teamspace = session.teamspace_facts();
    let decided = consume::decide_matching(caller, patterns, &catalogue, &teamspace, facts);
    let permitted = Permitted::by(decided.permitted());
    let asked = Asked { caller, facts, catalogue: &catalogue, permitted };
    if let Some(denied) = end_if_lost(hub, session, &held, &asked).await? {
        return Ok(Reconsidered::Ended { reason: denied.reason });
    }
    let before = held.granted;
    let gone = gone(hub, session, &before.services, &catalogue);
    let mut added = new(&before, decided.permitted());
    if let Err(too_many) = hub.must_fit_one_grant(session.org, &with(&before, &added, &gone)).await
    {
        tracing::warn!(session = %session.id, user = session.email, "New services are left out: {too_many}");
        added.clear();
    }
    if added.is_empty() && gone.is_empty() {
        return Ok(stands(before, facts).or_changed(has_moved));
    }
    hub.store.follow_catalogue(session, &added, &gone, hub.clock.now()).await?;
    store.session_pods_follow(session).await?;
    let granted = scope.granted(session.id).await?;
    let policy_version = facts.policies.version();
    Ok(Reconsidered::Stands { granted, changed: true, policy_version })
}

/// Returns the permits of what the session has not had yet, or not at these ports.
pub(super) fn new(before: &Granted, permitted: &[Permit<Reach>]) -> Vec<Permit<Reach>> {
    // The catalogue has its own order of ports, and what was remembered another.
    let set = |ports: &[ServicePort]| ports.iter().copied().collect::<BTreeSet<_>>();
    let had: BTreeMap<_, _> =
        before.services.iter().map(|had| (&had.service, set(&had.ports))).collect();
    let is_new = |reach: &Reach| match reach {
        Reach::Service(Consume { target, ports }) => {
            had.get(&target.service).is_none_or(|had| *had != set(ports))
        }
        Reach::Host(ReachExternal { target }) => !before.hosts.contains(&target.host),
    };
    permitted.iter().filter(|permit| is_new(permit.action())).cloned().collect()
}

/// Returns what the session had and what is no longer in the catalogue, for long enough.
fn gone(
    hub: &Hub,
    session: &Session,
    before: &[GrantedService],
    catalogue: &[Service],
) -> Vec<ServiceRef> {
    let of = (session.org, session.teamspace);
    let there: BTreeSet<_> = catalogue.iter().map(|service| &service.service).collect();
    hub.absences.are_there(of, there.iter().copied());
    let missing = before.iter().filter(|had| !there.contains(&had.service));
    let missing: Vec<_> = missing.map(|had| had.service.clone()).collect();
    hub.absences.gone(of, &missing, Instant::now())
}

/// What a session is looked at with.
pub(super) struct Asked<'a> {
    pub(super) caller: &'a Caller,
    pub(super) facts: &'a Facts,
    pub(super) catalogue: &'a [Service],
    pub(super) permitted: Permitted<'a>,
}

/// What was decided already.
#[derive(Default)]
pub(super) struct Permitted<'a> {
    services: BTreeSet<&'a ServiceRef>,
    hosts: BTreeSet<&'a ExternalHost>,
}

impl<'a> Permitted<'a> {
    pub(super) fn by(permits: &'a [Permit<Reach>]) -> Self {
        let mut permitted = Self::default();
        for permit in permits {
            match permit.action() {
                Reach::Service(Consume { target, .. }) => {
                    permitted.services.insert(&target.service)
                }
                Reach::Host(ReachExternal { target }) => permitted.hosts.insert(&target.host),
            };
        }
        permitted
    }
}

/// Ends a consume of which its user may no longer have a service or a host that it holds.
pub(super) async fn end_if_lost(
    hub: &Hub,
    session: &Session,
    held: &Held,
    asked: &Asked<'_>,
) -> Result<Option<Denied>, ActionError> {
    let Some(denied) = lost(session, held, asked) else { return Ok(None) };
    hub.store
        .unscoped("a policy took something away from the session")
        .end_session(session, &denied.reason, Some(&denied), hub.clock.now())
        .await?;
    Ok(Some(denied))
}

/// Says why the user of a consume may no longer have a service or a host: one that it reaches, or one that a grant names
/// which its laptop may still hold.
pub(super) fn lost(session: &Session, held: &Held, asked: &Asked<'_>) -> Option<Denied> {
    let Asked { caller, facts, catalogue, permitted } = asked;
    let services: BTreeSet<_> =
        held.services().filter(|service| !permitted.services.contains(service)).collect();
    // What is not there cannot be reached, and is decided when it comes back.
    let there = catalogue.iter().filter(|service| services.contains(&service.service));
    let teamspace = session.teamspace_facts();
    let services = there.map(|service| {
        let ports = service.consumable_ports().collect();
        Reach::Service(Consume { target: service.facts(&teamspace), ports })
    });
    let hosts = held.hosts().filter(|host| !permitted.hosts.contains(host));
    let hosts = hosts.map(|host| Reach::Host(consume::reach_external(host, &teamspace)));
    let refused = decide_each(caller, services.chain(hosts), facts).refused;
    refused.into_iter().next().map(|lost| lost.denied)
}

/// Returns what a session may reach once it has followed the catalogue.
fn with(before: &Granted, added: &[Permit<Reach>], gone: &[ServiceRef]) -> Granted {
    let added = consume::granted_by(added);
    let replaced = added.services.iter().map(|now| &now.service);
    let leaves: BTreeSet<_> = gone.iter().chain(replaced).collect();
    let stays = before.services.iter().filter(|had| !leaves.contains(&had.service));
    Granted {
        services: stays.chain(&added.services).cloned().collect(),
        hosts: before.hosts.iter().chain(&added.hosts).cloned().collect(),
    }
}

/// An intercept as it was asked for.
pub(super) struct Again<'s> {
    pub(super) service: &'s ServiceRef,
    pub(super) ports: &'s [InterceptPort],
    pub(super) grace_s: u32,
}

impl Again<'_> {
    /// Says why it may no longer be. A service that is gone from the catalogue is for the agent to deal with, which knows
    /// whether it is deleted.
    pub(super) fn lost(
        &self,
        session: &Session,
        caller: &Caller,
        facts: &Facts,
        catalogue: &[Service],
    ) -> Option<Denied> {
        let service = catalogue.iter().find(|known| known.service == *self.service)?;
        let target = service.facts(&session.teamspace_facts());
        let intercept = Intercept { target, ports: self.ports.to_vec(), grace_s: self.grace_s };
        decide(caller, intercept, facts).err()
    }
}

async fn again_intercept(
    hub: &Hub,
    session: &Session,
    again: &Again<'_>,
    caller: &Caller,
    facts: &Facts,
) -> Result<Reconsidered, ActionError> {
    let scope = hub.store.scoped(session.org);
    let granted = scope.granted(session.id).await?;
    let catalogue = scope.services(session.teamspace).await?;
    let Some(denied) = again.lost(session, caller, facts, &catalogue) else {
        return Ok(stands(granted, facts));
    };
    hub.store
        .unscoped("a policy took the service away from the session")
        .end_session(session, &denied.reason, Some(&denied), hub.clock.now())
        .await?;
    Ok(Reconsidered::Ended { reason: denied.reason })
}

fn stands(granted: Granted, facts: &Facts) -> Reconsidered {
    let policy_version = facts.policies.version();
    Reconsidered::Stands { granted, changed: false, policy_version }
}

async fn end(hub: &Hub, session: &Session, reason: &str) -> Result<Reconsidered, ActionError> {
    let ended: Result<bool, StoreError> = hub
        .store
        .unscoped("what the session stood on is gone")
        .end_session(session, reason, None, hub.clock.now())
        .await;
    ended?;
    Ok(Reconsidered::Ended { reason: reason.to_owned() })
}
