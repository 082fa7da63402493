//! Changes what a consume is about, in place: other words, another set of services, a new grant for the same session.
//! Its carriers stay, and with them every connection to what it still reaches.

use std::collections::BTreeSet;

use fairlead_model::{Patterns, ServiceRef, SessionId, timers::GRANT_LIFE};
use hub_policy::{
    Caller, Permit,
    actions::{Consume, Reach},
};
use hub_store::{ConsumeChange, Session, StoreError, Wanted};

use super::{
    ActionError,
    consume::{self, Brought, ConsumeBegun},
    reconsider::{Asked, Permitted, end_if_lost},
    renew, sessions, teamspaces,
};
use crate::Hub;

/// Decides for everything that the new words match, as at the beginning of a session.
pub async fn change(
    hub: &Hub,
    caller: &Caller,
    id: SessionId,
    patterns: Patterns,
) -> Result<ConsumeBegun, ActionError> {
    let _turn = hub.turns.of(id).await;
    let session = own_live_consume(hub, caller, id).await?;
    let facts = hub.facts(caller).await?;
    let teamspace = teamspaces::visible(hub, caller, session.teamspace, &facts).await?;
    sessions::must_be_open(&teamspace)?;
    let scope = hub.store.scoped(caller.org);
    let catalogue = scope.services(teamspace.id).await?;
    // What policies took away since the last look ends the session as it would have then: the laptop holds a grant.
    let permitted = Permitted::default();
    let asked = Asked { caller, facts: &facts, catalogue: &catalogue, permitted };
    let held = scope.held(id, hub.clock.now() - GRANT_LIFE).await?;
    if let Some(denied) = end_if_lost(hub, &session, &held, &asked).await? {
        return Err(denied.into());
    }
    let Brought { permits, refused, unmatched } =
        consume::bring(hub, caller, &patterns, &catalogue, &teamspace, &facts).await?;
    let stays: BTreeSet<&ServiceRef> = permits.iter().filter_map(service_of).collect();
    let before = held.granted.services.into_iter().map(|granted| granted.service);
    let gone: Vec<_> = before.filter(|service| !stays.contains(service)).collect();
    let begun_from = caller.from.map(|ip| ip.to_string());
    let change = ConsumeChange {
        permits: &permits,
        refused: &refused,
        patterns: &patterns,
        gone: &gone,
        begun_from: begun_from.as_deref(),
    };
    hub.store.change_consume(&session, &change, hub.clock.now()).await?;
    let session = scope.session(id).await?;
    let store = hub.store.unscoped("the pods of what the session may reach");
    store.session_pods_follow(&session).await?;
    let granted = scope.granted(id).await?;
    let grant = renew::grant(hub, &session, &granted, facts.policies.version()).await?;
    let (services, hosts) = (granted.services.len(), granted.hosts.len());
    tracing::info!(session = %id, services, hosts, "Consume changed");
    Ok(ConsumeBegun { session, grant, granted, refused, unmatched })
}

fn service_of(permit: &Permit<Reach>) -> Option<&ServiceRef> {
    match permit.action() {
        Reach::Service(Consume { target, .. }) => Some(&target.service),
        Reach::Host(_) => None,
    }
}

/// Finds a consume of the caller; anybody else's does not exist for this.
async fn own_live_consume(
    hub: &Hub,
    caller: &Caller,
    id: SessionId,
) -> Result<Session, ActionError> {
    let none = || ActionError::NotFound {
        message: format!("you have no consume `{id}`"),
        hint: Some("begin one: fairlead consume".to_owned()),
    };
    let session = match hub.store.scoped(caller.org).session(id).await {
        Ok(session) => session,
        Err(StoreError::NotFound { .. }) => return Err(none()),
        Err(error) => return Err(error.into()),
    };
    let is_own = session.user == caller.actor.user();
    if !is_own || !matches!(session.wanted, Wanted::Consume { .. }) {
        return Err(none());
    }
    match &session.ended {
        None => Ok(session),
        Some(ended) => Err(ActionError::Conflict {
            message: format!("the consume `{id}` is over: {}", ended.reason),
            hint: Some("begin one: fairlead consume".to_owned()),
        }),
    }
}
