//! Which sessions were live at the last look, and what a fresh look finds to be different.

use std::collections::{BTreeMap, HashMap};

use fairlead_model::{OrgId, SessionId};
use hub_store::Session;

/// The live sessions of one organization.
pub(super) type Live = BTreeMap<SessionId, Session>;

/// The live sessions of every organization that has any; the others take no room, and no look.
#[derive(Debug, Default)]
pub(super) struct Known(HashMap<OrgId, Live>);

impl Known {
    pub(super) fn organizations(&self) -> impl Iterator<Item = OrgId> {
        self.0.keys().copied()
    }

    pub(super) fn of(&self, org: OrgId) -> Live {
        self.0.get(&org).cloned().unwrap_or_default()
    }

    /// Remembers what is live now, and returns what was before.
    pub(super) fn replace(&mut self, org: OrgId, now: Live) -> Live {
        let before = if now.is_empty() { self.0.remove(&org) } else { self.0.insert(org, now) };
        before.unwrap_or_default()
    }
}

pub(super) struct Differences {
    pub(super) ended: Vec<Session>,
    pub(super) begun: Vec<Session>,
}

pub(super) fn differences(before: &Live, now: &Live) -> Differences {
    let missing = |from: &Live, other: &Live| {
        from.values().filter(|session| !other.contains_key(&session.id)).cloned().collect()
    };
    Differences { ended: missing(before, now), begun: missing(now, before) }
}

#[cfg(test)]
mod tests {
    use fairlead_model::{DeviceId, Phase, TeamspaceId, Thumbprint, UserId};

    use super::*;

    fn session() -> Session {
        Session {
            org: OrgId::generate(),
            id: SessionId::generate(),
            teamspace: TeamspaceId::generate(),
            teamspace_name: "staging".parse().expect("a name"),
            user: UserId::generate(),
            email: "ada@example.test".to_owned(),
            device: DeviceId::generate(),
            device_name: "laptop".to_owned(),
            device_key: Thumbprint::of_spki(b"a key"),
            wanted: hub_store::Wanted::Intercept {
                service: "shop/cart".parse().expect("a service"),
                ports: Vec::new(),
                grace_s: 15,
            },
            begun_from: None,
            phase: Phase::Preparing,
            detail: None,
            created_at: jiff::Timestamp::UNIX_EPOCH,
            renewed_at: jiff::Timestamp::UNIX_EPOCH,
            ended: None,
        }
    }

    #[test]
    fn what_is_missing_has_ended_and_what_is_new_has_begun() {
        let (stays, goes, comes) = (session(), session(), session());
        let live = |sessions: [&Session; 2]| -> Live {
            sessions.into_iter().map(|session| (session.id, session.clone())).collect()
        };
        let differences = differences(&live([&stays, &goes]), &live([&stays, &comes]));
        assert_eq!(differences.ended, [goes]);
        assert_eq!(differences.begun, [comes]);
    }
    #[test]
    fn an_organization_whose_last_session_has_ended_is_forgotten() {
        let mut known = Known::default();
        let session = session();
        let live = Live::from([(session.id, session.clone())]);
        assert!(known.replace(session.org, live.clone()).is_empty());
        assert_eq!(known.organizations().collect::<Vec<_>>(), [session.org]);
        assert_eq!(known.replace(session.org, Live::new()), live);
        assert_eq!(known.organizations().count(), 0);
    }
}
