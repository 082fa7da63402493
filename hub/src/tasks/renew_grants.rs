//! Renews the grants of sessions whose laptop is connected to this hub, well before they end.

use std::time::Duration;

use fairlead_model::timers::GRANT_RENEWAL;
use hub_store::{Filter, StoreError};
use tokio::time;

use crate::{Hub, actions::renew};

const LOOK: Duration = Duration::from_secs(10);

pub(super) async fn run(hub: Hub) {
    let mut look = time::interval(LOOK);
    look.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        if let Err(error) = renew_due(&hub).await {
            tracing::warn!(%error, "Grants could not be renewed; they will be soon");
        }
    }
}

async fn renew_due(hub: &Hub) -> Result<(), StoreError> {
    let due_before = hub.clock.now() - GRANT_RENEWAL;
    let live = Filter { only_live: true, ..Filter::default() };
    for org in hub.links.organizations() {
        for session in hub.store.scoped(org).sessions(live).await? {
            if session.renewed_at <= due_before && hub.links.is_laptop_connected(session.device) {
                renew::and_log(hub, &session).await;
            }
        }
    }
    Ok(())
}
