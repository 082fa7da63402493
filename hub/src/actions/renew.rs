//! Renewal: a grant lives a quarter of an hour, and is minted anew only while the decision still says yes.

use fairlead_wire::link::v1::{Grant, laptop_down};
use hub_store::Session;

use super::{
    ActionError,
    reconsider::{Reconsidered, reconsider},
};
use crate::Hub;

/// Decides again, and sends a fresh grant to the laptop if the session stands.
pub async fn renew(hub: &Hub, session: &Session) -> Result<(), ActionError> {
    let Reconsidered::Stands { services, policy_version, .. } = reconsider(hub, session).await?
    else {
        return Ok(());
    };
    let grant = hub.mint(session, &services, policy_version).await?;
    let grant = Grant { session_id: session.id.to_string(), grant };
    hub.links.tell_laptop(session.device, laptop_down::Message::Grant(grant));
    hub.store
        .unscoped("the grant of a live session was renewed")
        .session_renewed(session, hub.clock.now())
        .await?;
    Ok(())
}

/// Renews, for tasks that go on with the next session when one fails.
pub(crate) async fn and_log(hub: &Hub, session: &Session) {
    if let Err(error) = renew(hub, session).await {
        tracing::warn!(%error, session = %session.id, "A grant could not be renewed");
    }
}
