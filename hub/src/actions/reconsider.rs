//! Decides again about a live session: because something it was decided on has changed, or because its grant is to be
//! renewed.
//!
//! A session that lost any of its services ends as a whole. To take one service out of a grant that a laptop already
//! holds, the old grant would have to be recalled from every agent; an ended session is recalled by its name.

use fairlead_model::{InterceptPort, Patterns, ServiceRef};
use hub_policy::{
    Caller, Decided, Facts, Permit,
    actions::{Consume, Intercept},
    decide,
};
use hub_store::{Granted, Session, StoreError, Wanted};

use super::{ActionError, consume};
use crate::Hub;

/// What became of the session.
#[derive(Debug)]
pub enum Reconsidered {
    /// It may go on; true when it may reach more than before.
    Stands {
        services: Vec<Granted>,
        widened: bool,
        policy_version: u64,
    },
    Ended {
        reason: String,
    },
}

/// Decides again with everything as it is at this moment.
pub async fn reconsider(hub: &Hub, session: &Session) -> Result<Reconsidered, ActionError> {
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
    let before = scope.granted(session.id).await?;
    let teamspace = session.teamspace_facts();
    let decided = consume::decide_matching(caller, patterns, &catalogue, &teamspace, facts);
    if let Some(lost) = lost(&before, &decided) {
        let reason = lost.denied.reason.clone();
        hub.store
            .unscoped("a policy took a service away from the session")
            .end_session(session, &reason, Some(&lost.denied), hub.clock.now())
            .await?;
        return Ok(Reconsidered::Ended { reason });
    }
    let new: Vec<_> = decided
        .permitted()
        .iter()
        .filter(|permit| {
            let Consume { target, ports } = permit.action();
            !before.iter().any(|had| had.service == target.service && had.ports == *ports)
        })
        .cloned()
        .collect();
    if new.is_empty() {
        return Ok(stands(before, facts));
    }
    if let Err(too_many) = hub.must_fit_one_grant(session.org, &with(&before, &new)).await {
        tracing::warn!(session = %session.id, user = session.email, "New services are left out: {too_many}");
        return Ok(stands(before, facts));
    }
    hub.store.widen(session, &new, hub.clock.now()).await?;
    let services = scope.granted(session.id).await?;
    let policy_version = facts.policies.version();
    Ok(Reconsidered::Stands { services, widened: true, policy_version })
}

/// Returns what a session may reach once it is widened by `new`.
fn with(before: &[Granted], new: &[Permit<Consume>]) -> Vec<Granted> {
    let new: Vec<_> = new.iter().map(|permit| consume::granted_by(permit.action())).collect();
    let stays = |had: &&Granted| !new.iter().any(|now| now.service == had.service);
    before.iter().filter(stays).chain(&new).cloned().collect()
}

/// An intercept as it was asked for.
struct Again<'s> {
    service: &'s ServiceRef,
    ports: &'s [InterceptPort],
    grace_s: u32,
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
    // A service that is gone from the catalogue is for the agent to deal with, which knows whether it is deleted.
    let Some(service) = catalogue.iter().find(|known| known.service == *again.service) else {
        return Ok(stands(granted, facts));
    };
    let target = service.facts(&session.teamspace_facts());
    let intercept = Intercept { target, ports: again.ports.to_vec(), grace_s: again.grace_s };
    let Err(denied) = decide(caller, intercept, facts) else { return Ok(stands(granted, facts)) };
    hub.store
        .unscoped("a policy took the service away from the session")
        .end_session(session, &denied.reason, Some(&denied), hub.clock.now())
        .await?;
    Ok(Reconsidered::Ended { reason: denied.reason })
}

fn stands(services: Vec<Granted>, facts: &Facts) -> Reconsidered {
    let policy_version = facts.policies.version();
    Reconsidered::Stands { services, widened: false, policy_version }
}

/// Returns the first service that the session had and may no longer have.
fn lost<'d>(
    before: &[Granted],
    decided: &'d Decided<Consume>,
) -> Option<&'d hub_policy::Refused<Consume>> {
    decided
        .refused
        .iter()
        .find(|refused| before.iter().any(|had| had.service == refused.action.target.service))
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
