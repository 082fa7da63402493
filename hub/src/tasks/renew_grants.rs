//! Renews the grants of sessions whose laptop is connected to this hub, well before they end. So it does with those from the
//! future, which were made before the hub's clock was set right: agents do not take them.

use std::time::Duration;

use fairlead_model::{
    OrgId,
    timers::{CLOCK_SKEW, GRANT_RENEWAL},
};
use hub_store::StoreError;
use jiff::Timestamp;
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
    let now = hub.clock.now();
    for session in hub.store.scoped(org).sessions(LIVE).await? {
        if is_due(session.renewed_at, now) && hub.links.is_laptop_connected(session.device) {
            renew::and_log(hub, &session, renew::Sent::Always).await;
        }
    }
    Ok(())
}

fn is_due(made_at: Timestamp, now: Timestamp) -> bool {
    made_at <= now - GRANT_RENEWAL || made_at > now + CLOCK_SKEW
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_is_due_when_it_is_old_or_from_the_future() {
        let now = Timestamp::now();
        assert!(is_due(now - GRANT_RENEWAL, now) && !is_due(now - GRANT_RENEWAL / 2, now));
        assert!(is_due(now + 2 * CLOCK_SKEW, now) && !is_due(now + CLOCK_SKEW, now));
    }
}
