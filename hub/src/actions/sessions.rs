//! Sessions of both kinds: listed as far as they may be seen, ended, observed.

use fairlead_model::{DeviceId, Phase, SessionId};
use hub_policy::{
    Caller, Decider, Refused,
    actions::{EndSession, SeeSession},
    decide,
};
use hub_store::{Filter, Session, StoreError, Teamspace};

use super::ActionError;
use crate::Hub;

#[derive(Debug)]
pub struct SessionSeen {
    pub session: Session,
    pub may_end: bool,
}

pub async fn list(
    hub: &Hub,
    caller: &Caller,
    only_live: bool,
) -> Result<Vec<SessionSeen>, ActionError> {
    let facts = hub.facts(caller).await?;
    let filter = Filter { only_live, ..Filter::default() };
    let sessions = hub.store.scoped(caller.org).sessions(filter).await?;
    let mut decider = Decider::new(caller, &facts);
    let mut list = Vec::new();
    for session in sessions {
        if decider.would_permit(&see(&session)) {
            let may_end = session.is_live() && decider.would_permit(&end_of(&session));
            list.push(SessionSeen { session, may_end });
        }
    }
    Ok(list)
}

pub async fn show(hub: &Hub, caller: &Caller, id: SessionId) -> Result<SessionSeen, ActionError> {
    let facts = hub.facts(caller).await?;
    let session = hub.store.scoped(caller.org).session(id).await?;
    hub.decide(caller, see(&session), &facts).await?;
    let may_end = session.is_live() && decide(caller, end_of(&session), &facts).is_ok();
    Ok(SessionSeen { session, may_end })
}

/// Ends a session; ending an ended one is no error. Both ends hear of it from the task that watches sessions.
pub async fn end(hub: &Hub, caller: &Caller, id: SessionId) -> Result<(), ActionError> {
    let facts = hub.facts(caller).await?;
    let session = hub.store.scoped(caller.org).session(id).await?;
    let permit = hub.decide(caller, end_of(&session), &facts).await?;
    let reason = if session.user == caller.actor.user() {
        "ended".to_owned()
    } else {
        format!("ended by {}", caller.actor.email())
    };
    if hub.store.end_session(&permit, &reason, hub.clock.now()).await? {
        tracing::info!(session = %id, reason, "Session ended");
    }
    Ok(())
}

/// Stores what an agent or a laptop sees of a session; a session that is seen to be over ends.
pub async fn observed(
    hub: &Hub,
    session: &Session,
    phase: Phase,
    detail: Option<&str>,
) -> Result<(), StoreError> {
    let store = hub.store.unscoped("an authenticated end of the session reports what it sees");
    match phase {
        Phase::Ended | Phase::Refused => {
            let reason = detail.unwrap_or(phase.as_str());
            if store.session_seen_to_end(session, phase, reason, hub.clock.now()).await? {
                tracing::info!(session = %session.id, reason, "Session seen to end");
            }
        }
        Phase::Preparing | Phase::Active | Phase::Away | Phase::Contested => {
            if store.session_observed(session, phase, detail).await? {
                tracing::debug!(session = %session.id, %phase, "Session observed");
            }
        }
    }
    Ok(())
}

/// Refuses what needs a cluster where there is none, or none that can be trusted.
pub(super) fn must_be_open(teamspace: &Teamspace) -> Result<(), ActionError> {
    let refused = |message: String, hint: &str| {
        Err(ActionError::Conflict { message, hint: Some(hint.to_owned()) })
    };
    if let Some(reason) = &teamspace.lock_reason {
        let message = format!("teamspace `{}` is locked: {reason}", teamspace.name);
        return refused(message, "ask an admin of your organization");
    }
    if teamspace.enrolment.is_none() {
        let message = format!("no cluster has joined teamspace `{}` yet", teamspace.name);
        return refused(message, "install the cluster agent with a join token of this teamspace");
    }
    Ok(())
}

/// Refuses a device that is not the caller's own.
pub(super) async fn own_device(
    hub: &Hub,
    caller: &Caller,
    device: DeviceId,
) -> Result<(), ActionError> {
    match hub.store.scoped(caller.org).device(device).await? {
        Some(device) if device.user_id == caller.actor.user() => Ok(()),
        _ => Err(ActionError::NotFound {
            message: format!("you have no device `{device}`"),
            hint: Some("register this laptop again: fairlead login".to_owned()),
        }),
    }
}

/// Leaves out what the caller may not know to exist.
pub(super) fn only_visible<A>(refused: Vec<Refused<A>>) -> Vec<Refused<A>> {
    refused.into_iter().filter(|refused| refused.denied.visible).collect()
}

fn see(session: &Session) -> SeeSession {
    SeeSession { session: session.id, owner: session.user, teamspace: session.teamspace_facts() }
}

fn end_of(session: &Session) -> EndSession {
    EndSession { session: session.id, owner: session.user, teamspace: session.teamspace_facts() }
}
