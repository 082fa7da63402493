//! Renews the grants of sessions whose laptop is connected to this hub, well before they end.

use std::time::Duration;

use fairlead_model::{OrgId, timers::GRANT_RENEWAL};
use hub_store::StoreError;
use tokio::time;

use super::{LIVE, for_each_organization};
use crate::{Hub, actions::renew};

const LOOK: Duration = Duration::from_secs(10);

pub(super) async fn run(mut hub: Hub) {
    let mut look = time::interval(LOOK);
    look.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        let organizations = hub.links.organizations();
        for_each_organization("Renewing grants", organizations, &mut hub, |hub, org| {
            Box::pin(renew_due(hub, org))
        })
        .await;
    }
}

async fn renew_due(hub: &Hub, org: OrgId) -> Result<(), StoreError> {
    let due_before = hub.clock.now() - GRANT_RENEWAL;
    for session in hub.store.scoped(org).sessions(LIVE).await? {
        if session.renewed_at <= due_before && hub.links.is_laptop_connected(session.device) {
            renew::and_log(hub, &session, renew::Sent::Always).await;
        }
    }
    Ok(())
}
