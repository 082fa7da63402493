//! Denials, in the audit log: whoever keeps asking for what they may not have is seen.
//!
//! Whatever is asked again and again, by a page or by a loop, is one row a minute, so that nobody can flood the log.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use fairlead_model::{OrgId, UserId};
use hub_policy::{Action, Caller, Denied, Facts, Permit, decide};
use hub_store::audit::Entry;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::ActionError;
use crate::Hub;

const AGAIN_AFTER: SignedDuration = SignedDuration::from_mins(1);
/// Most denials remembered; beyond, every one is recorded until the oldest have come of age.
const MAX_REMEMBERED: usize = 10_000;

/// The denials of the last minute.
#[derive(Debug, Default)]
pub struct RecentDenials(Mutex<HashMap<(OrgId, UserId, String), Timestamp>>);

impl RecentDenials {
    /// Says whether this was not denied within the last minute.
    fn is_new(&self, caller: &Caller, what: &str, now: Timestamp) -> bool {
        let mut recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (caller.org, caller.actor.user(), what.to_owned());
        if recent.get(&key).is_some_and(|until| *until > now) {
            return false;
        }
        if recent.len() >= MAX_REMEMBERED {
            recent.retain(|_, until| *until > now);
        }
        if recent.len() < MAX_REMEMBERED {
            recent.insert(key, now + AGAIN_AFTER);
        }
        true
    }
}

impl Hub {
    /// Decides, and records a refusal.
    pub async fn decide<A: Action>(
        &self,
        caller: &Caller,
        action: A,
        facts: &Facts,
    ) -> Result<Permit<A>, ActionError> {
        let what = action.in_words();
        match decide(caller, action, facts) {
            Ok(permit) => Ok(permit),
            Err(denied) => Err(self.refusal(caller, &what, denied).await),
        }
    }

    /// Records a refusal that was decided already, and returns it for the caller.
    pub(super) async fn refusal(&self, caller: &Caller, what: &str, denied: Denied) -> ActionError {
        let now = self.clock.now();
        if self.denials.is_new(caller, what, now) {
            let entry = Entry::by_caller(caller, "access.denied", what)
                .with(json!({ "reason": denied.reason }))
                .refused_by(denied.policy_version, &denied.policies);
            if let Err(error) = self.store.record(entry, now).await {
                return error.into();
            }
        }
        denied.into()
    }
}

#[cfg(test)]
mod tests {
    use hub_policy::Actor;

    use super::*;

    #[test]
    fn the_same_denial_counts_once_a_minute() {
        let actor = Actor::User { id: UserId::generate(), email: "ada@example.test".to_owned() };
        let ada =
            Caller { org: OrgId::generate(), actor, roles: vec![], groups: vec![], from: None };
        let (recent, now) = (RecentDenials::default(), Timestamp::UNIX_EPOCH);
        assert!(recent.is_new(&ada, "change policies", now));
        assert!(!recent.is_new(&ada, "change policies", now + AGAIN_AFTER / 2));
        assert!(recent.is_new(&ada, "change roles", now));
        assert!(recent.is_new(&ada, "change policies", now + AGAIN_AFTER));
    }
}
