//! Ends sessions whose grant ran out because their laptop never came back for another, and what stands on tokens of service
//! accounts that have expired.

use std::{collections::BTreeSet, time::Duration};

use fairlead_model::{OrgId, timers::GRANT_LIFE};
use hub_store::StoreError;
use tokio::time;

use super::{LIVE, for_each_organization};
use crate::Hub;

const LOOK: Duration = Duration::from_secs(10);
const REASON: &str = "the laptop was away for too long";

pub(super) async fn run(mut hub: Hub) {
    let mut look = time::interval(LOOK);
    look.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        if let Err(error) = expire(&mut hub).await {
            tracing::warn!(%error, "Sessions could not be ended; they will be soon");
        }
    }
}

async fn expire(hub: &mut Hub) -> Result<(), StoreError> {
    let store = hub.store.unscoped("sessions of every organization come to their end");
    store.end_expired_api_tokens(hub.clock.now()).await?;
    let organizations = BTreeSet::from_iter(store.organizations_with_live_sessions().await?);
    for_each_organization("Ending sessions", organizations, hub, |hub, org| {
        Box::pin(of_organization(hub, org))
    })
    .await;
    Ok(())
}

async fn of_organization(hub: &Hub, org: OrgId) -> Result<(), StoreError> {
    let store = hub.store.unscoped("sessions of every organization come to their end");
    let now = hub.clock.now();
    for session in hub.store.scoped(org).sessions(LIVE).await? {
        if session.renewed_at + GRANT_LIFE < now
            && store.end_session(&session, REASON, None, now).await?
        {
            tracing::info!(session = %session.id, user = session.email, "Session expired");
        }
    }
    Ok(())
}
