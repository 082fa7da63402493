//! Grants of live sessions: one lives a quarter of an hour, and is minted anew only while the decision still says yes.

use fairlead_wire::link::v1::{Grant, laptop_down};
use hub_store::{Granted, Session, Wanted};

use super::{
    ActionError,
    reconsider::{Reconsidered, reconsider},
};
use crate::Hub;

/// When a fresh grant is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    Always,
    /// When what the session may reach is not what it was.
    IfChanged,
}

/// Decides again, and sends a fresh grant to the laptop if the session stands.
pub(crate) async fn renew(hub: &Hub, session: &Session, sent: Sent) -> Result<(), ActionError> {
    let _turn = hub.turns.of(session.id).await;
    // Whoever had the turn before may have changed it.
    let session = hub.store.scoped(session.org).session(session.id).await?;
    if !session.is_live() {
        return Ok(());
    }
    match reconsider(hub, &session).await? {
        Reconsidered::Stands { granted, changed, policy_version } => {
            if changed || sent == Sent::Always {
                grant(hub, &session, &granted, policy_version).await?;
            }
        }
        Reconsidered::Ended { reason } => {
            tracing::info!(session = %session.id, user = session.email, reason, "Session revoked");
        }
    }
    Ok(())
}

/// Mints a grant, sends it to the laptop and returns it. It takes a turn of the session.
pub(super) async fn grant(
    hub: &Hub,
    session: &Session,
    granted: &Granted,
    policy_version: u64,
) -> Result<String, ActionError> {
    let grant = hub.mint(session, granted, policy_version).await?;
    let patterns = match &session.wanted {
        Wanted::Consume { patterns } => patterns.iter().map(ToString::to_string).collect(),
        Wanted::Intercept { .. } => Vec::new(),
    };
    let message = Grant { session_id: session.id.to_string(), grant: grant.clone(), patterns };
    hub.links.tell_laptop(session.device, laptop_down::Message::Grant(message));
    hub.store
        .unscoped("the grant of a live session was renewed")
        .session_renewed(session, hub.clock.now())
        .await?;
    Ok(grant)
}

/// Renews, for tasks that go on with the next session when one fails; says whether it did not.
pub(crate) async fn and_log(hub: &Hub, session: &Session, sent: Sent) -> bool {
    let renewed = renew(hub, session, sent).await;
    if let Err(error) = &renewed {
        tracing::warn!(%error, session = %session.id, "A live session could not be decided again");
    }
    renewed.is_ok()
}
