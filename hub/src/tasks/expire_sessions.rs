//! Ends sessions whose grant ran out because their laptop never came back for another.

use std::time::Duration;

use fairlead_model::timers::GRANT_LIFE;
use hub_store::{Filter, StoreError};
use tokio::time;

use crate::Hub;

const LOOK: Duration = Duration::from_secs(10);
const REASON: &str = "the laptop was away for too long";

pub(super) async fn run(hub: Hub) {
    let mut look = time::interval(LOOK);
    look.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        if let Err(error) = expire(&hub).await {
            tracing::warn!(%error, "Sessions could not be ended; they will be soon");
        }
    }
}

async fn expire(hub: &Hub) -> Result<(), StoreError> {
    let store = hub.store.unscoped("sessions of every organization come to their end");
    let now = hub.clock.now();
    let live = Filter { only_live: true, ..Filter::default() };
    for org in store.organizations_with_live_sessions().await? {
        for session in hub.store.scoped(org).sessions(live).await? {
            if session.renewed_at + GRANT_LIFE < now
                && store.end_session(&session, REASON, None, now).await?
            {
                tracing::info!(session = %session.id, user = session.email, "Session expired");
            }
        }
    }
    Ok(())
}
