//! Ends sessions whose grant ran out because their laptop never came back for another, and what stands on tokens of service
//! accounts that have expired.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use fairlead_model::{OrgId, SessionId, timers::GRANT_LIFE};
use hub_store::StoreError;
use jiff::Timestamp;
use tokio::time;

use super::{LIVE, for_each_organization};
use crate::Hub;

const LOOK: Duration = Duration::from_secs(10);
const REASON: &str = "the laptop was away for too long";

pub(super) async fn run(hub: Hub) {
    let mut task = Expiry { hub, lasts: HashMap::new() };
    let mut look = time::interval(LOOK);
    look.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        if let Err(error) = task.expire().await {
            tracing::warn!(%error, "Sessions could not be ended; they will be soon");
        }
    }
}

struct Expiry {
    hub: Hub,
    /// Of every session that was live at the last look.
    lasts: HashMap<OrgId, HashMap<SessionId, Last>>,
}

impl Expiry {
    async fn expire(&mut self) -> Result<(), StoreError> {
        let store = self.hub.store.unscoped("sessions of every organization come to their end");
        store.end_expired_api_tokens(self.hub.clock.now()).await?;
        let organizations = BTreeSet::from_iter(store.organizations_with_live_sessions().await?);
        self.lasts.retain(|org, _| organizations.contains(org));
        for_each_organization("Ending sessions", organizations, self, |task, org| {
            Box::pin(task.of_organization(org))
        })
        .await;
        Ok(())
    }

    async fn of_organization(&mut self, org: OrgId) -> Result<(), StoreError> {
        let hub = &self.hub;
        let store = hub.store.unscoped("sessions of every organization come to their end");
        let sessions = hub.store.scoped(org).sessions(LIVE).await?;
        let (now, since_boot) = (hub.clock.now(), hub.clock.since_boot());
        let before = self.lasts.remove(&org).unwrap_or_default();
        let lasts = sessions.iter().map(|session| {
            let before = before.get(&session.id).copied();
            (session.id, Last::of(session.renewed_at, before, now, since_boot))
        });
        let lasts = self.lasts.entry(org).insert_entry(lasts.collect()).into_mut();
        for session in sessions {
            if lasts[&session.id].ends <= since_boot
                && store.end_session(&session, REASON, None, now).await?
            {
                tracing::info!(session = %session.id, user = session.email, "Session expired");
            }
        }
        Ok(())
    }
}

/// The last grant of a session: when it was made, and when it ends, counted from boot.
///
/// The clock on the wall is asked only about grants of before this hub began: set ahead by a quarter of an hour, it would
/// end every session there is.
#[derive(Clone, Copy, Debug)]
struct Last {
    made_at: Timestamp,
    ends: Duration,
}

impl Last {
    fn of(made_at: Timestamp, before: Option<Self>, now: Timestamp, since_boot: Duration) -> Self {
        match before {
            Some(same) if same.made_at == made_at => same,
            Some(_) => Self { made_at, ends: since_boot + GRANT_LIFE },
            None => {
                let age = now.duration_since(made_at).try_into().unwrap_or(Duration::ZERO);
                Self { made_at, ends: since_boot + GRANT_LIFE.saturating_sub(age) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_grant_of_before_the_hub_began_ends_by_the_clock_on_the_wall() {
        let (now, boot) = (Timestamp::now(), HOUR);
        assert_eq!(Last::of(now - MINUTE, None, now, boot).ends, boot + GRANT_LIFE - MINUTE);
        assert_eq!(Last::of(now - HOUR, None, now, boot).ends, boot, "it is over");
        assert_eq!(Last::of(now + HOUR, None, now, boot).ends, boot + GRANT_LIFE, "no longer");
    }

    #[test]
    fn a_clock_that_is_set_ends_nothing_and_prolongs_nothing() {
        let (now, boot) = (Timestamp::now(), HOUR);
        let first = Last::of(now, None, now, boot);
        for set in [now + HOUR, now - HOUR] {
            assert_eq!(Last::of(now, Some(first), set, boot + MINUTE).ends, boot + GRANT_LIFE);
            let renewed = Last::of(set, Some(first), set, boot + MINUTE);
            assert_eq!(renewed.ends, boot + MINUTE + GRANT_LIFE);
        }
    }
}
