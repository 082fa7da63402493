//! Tells agents and laptops what should be.
//!
//! The one place that says `Wanted`, `Revoked` and offers intercepts their carriers, so that nothing said later is
//! older than what was said before. It remembers which sessions were live when it last looked; what is missing now
//! has ended: both ends are told, and its carriers are cut, whoever ended it and in whichever process.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use fairlead_model::{DeviceId, OrgId, SessionId, SessionKind, TeamspaceId};
use fairlead_wire::link::v1::{Wanted, cluster_down, laptop_down};
use hub_store::{EndCause, Filter, Session, StoreError};
use tokio::{sync::mpsc, time};

use super::changes::ToAnnounce;
use crate::{
    Hub,
    actions::renew,
    links::{offer_intercept, revoked, wanted_session},
};

/// A hint may get lost; looking again after this long repairs it.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// What is under way at the laptop when an intercept is left may take this long; the agent grants it 1 s.
const UNDER_WAY: Duration = Duration::from_millis(1500);

type Live = BTreeMap<SessionId, Session>;

pub(super) async fn run(hub: Hub, mut announce_rx: mpsc::Receiver<ToAnnounce>) {
    let mut task = Announcer { hub, known: HashMap::new(), version: 0 };
    let mut again = time::interval(LOOK_AGAIN);
    again.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    loop {
        let what = tokio::select! {
            what = announce_rx.recv() => what.unwrap_or(ToAnnounce::Everything),
            _ = again.tick() => ToAnnounce::Everything,
        };
        if let Err(error) = task.announce(what).await {
            tracing::warn!(%error, "What should be could not be announced; it will be soon");
        }
    }
}

struct Announcer {
    hub: Hub,
    known: HashMap<OrgId, Live>,
    /// Of the last `Wanted`; agents drop one that is older than the one they have.
    version: u64,
}

impl Announcer {
    async fn announce(&mut self, what: ToAnnounce) -> Result<(), StoreError> {
        match what {
            ToAnnounce::Organization(org) => self.organization(org).await.map(drop),
            ToAnnounce::Teamspace(org, teamspace) => self.teamspace(org, teamspace).await,
            ToAnnounce::Replica(org, teamspace, name) => self.replica(org, teamspace, &name).await,
            ToAnnounce::Laptop(org, device) => self.laptop(org, device).await,
            ToAnnounce::Laptops(org) => self.laptops(org).await,
            ToAnnounce::Everything => {
                let mut orgs: BTreeSet<_> = self.hub.links.organizations();
                orgs.extend(self.known.keys());
                for org in orgs {
                    self.organization(org).await?;
                }
                Ok(())
            }
        }
    }

    /// Compares the organization's live sessions with those known before, and tells whom it concerns. Returns those that
    /// have begun: their carriers are offered.
    async fn organization(&mut self, org: OrgId) -> Result<Vec<SessionId>, StoreError> {
        let live = self.live(org).await?;
        let before = self.known.insert(org, live).unwrap_or_default();
        let now = self.known.get(&org).cloned().unwrap_or_default();
        let Differences { ended, begun } = differences(&before, &now);
        let touched: BTreeSet<_> = ended.iter().chain(&begun).map(|s| s.teamspace).collect();
        for session in ended {
            self.tell_ended(session).await;
        }
        for teamspace in touched {
            let wanted = cluster_down::Message::Wanted(self.wanted(&now, teamspace));
            self.hub.links.tell_teamspace(teamspace, &wanted);
        }
        for session in &begun {
            for replica in self.hub.links.replicas(session.teamspace) {
                offer_intercept(&self.hub, session, &replica).await;
            }
        }
        Ok(begun.into_iter().map(|session| session.id).collect())
    }

    /// A teamspace that was deleted or locked keeps no link.
    async fn teamspace(&mut self, org: OrgId, id: TeamspaceId) -> Result<(), StoreError> {
        self.organization(org).await?;
        let open = match self.hub.store.scoped(org).teamspace(id).await {
            Ok(teamspace) => teamspace.lock_reason.is_none(),
            Err(StoreError::NotFound { .. }) => false,
            Err(error) => return Err(error),
        };
        if !open {
            self.hub.links.drop_teamspace(id);
        }
        Ok(())
    }

    /// A replica that has connected hears everything that should be, and gets its carriers of running intercepts.
    async fn replica(
        &mut self,
        org: OrgId,
        teamspace: TeamspaceId,
        name: &str,
    ) -> Result<(), StoreError> {
        let begun = self.organization(org).await?;
        let live = self.known.get(&org).cloned().unwrap_or_default();
        let wanted = cluster_down::Message::Wanted(self.wanted(&live, teamspace));
        self.hub.links.tell_replica(teamspace, name, wanted);
        let others = live.values().filter(|session| !begun.contains(&session.id));
        for session in others.filter(|session| session.teamspace == teamspace) {
            offer_intercept(&self.hub, session, name).await;
        }
        Ok(())
    }

    /// A laptop that has connected gets fresh grants and its carriers of running intercepts.
    async fn laptop(&mut self, org: OrgId, device: DeviceId) -> Result<(), StoreError> {
        let begun = self.organization(org).await?;
        let live = self.known.get(&org).cloned().unwrap_or_default();
        for session in live.values().filter(|session| session.device == device) {
            match session.kind() {
                SessionKind::Consume => renew::and_log(&self.hub, session).await,
                SessionKind::Intercept if begun.contains(&session.id) => {}
                SessionKind::Intercept => {
                    for replica in self.hub.links.replicas(session.teamspace) {
                        offer_intercept(&self.hub, session, &replica).await;
                    }
                }
            }
        }
        // It may have been removed while it was connecting.
        self.drop_unless_known(org, device).await
    }

    async fn laptops(&mut self, org: OrgId) -> Result<(), StoreError> {
        self.organization(org).await?;
        for device in self.hub.links.laptops(org) {
            self.drop_unless_known(org, device).await?;
        }
        Ok(())
    }

    /// Ends the link of a laptop whose device was removed, or whose user is no longer a member.
    async fn drop_unless_known(&self, org: OrgId, id: DeviceId) -> Result<(), StoreError> {
        let scope = self.hub.store.scoped(org);
        let known = match scope.device(id).await? {
            Some(device) => scope.caller_of(device.user_id).await?.is_some(),
            None => false,
        };
        if !known {
            self.hub.links.drop_laptop(id);
        }
        Ok(())
    }

    /// Tells both ends, and cuts the carriers: a link may be down while a carrier lives.
    ///
    /// An intercept that its owner leaves is in `Wanted` no longer, which is enough for the agent to give the service
    /// back; requests that are at the laptop already get the time to be answered.
    async fn tell_ended(&self, session: Session) {
        let (left, reason) = match self.hub.store.scoped(session.org).session(session.id).await {
            Ok(Session { ended: Some(ended), .. }) => (ended.cause == EndCause::Left, ended.reason),
            Err(StoreError::NotFound { .. }) => (false, "the teamspace was deleted".to_owned()),
            Ok(_) => (false, "it ended".to_owned()),
            Err(error) => {
                tracing::warn!(%error, "Why a session ended could not be read");
                (false, "it ended".to_owned())
            }
        };
        let hub = self.hub.clone();
        if left && session.kind() == SessionKind::Intercept {
            self.hub.tasks.spawn(async move {
                time::sleep(UNDER_WAY).await;
                close(&hub, &session, &reason);
            });
        } else {
            close(&hub, &session, &reason);
        }
    }

    fn wanted(&mut self, live: &Live, teamspace: TeamspaceId) -> Wanted {
        // Counted up from the time, so that a hub that starts again is not older than it was before.
        let micros = u64::try_from(self.hub.clock.now().as_microsecond()).unwrap_or_default();
        self.version = micros.max(self.version + 1);
        let sessions = live.values().filter(|session| session.teamspace == teamspace);
        Wanted { version: self.version, sessions: sessions.map(wanted_session).collect() }
    }

    async fn live(&self, org: OrgId) -> Result<Live, StoreError> {
        let live = Filter { only_live: true, ..Filter::default() };
        let sessions = self.hub.store.scoped(org).sessions(live).await?;
        Ok(sessions.into_iter().map(|session| (session.id, session)).collect())
    }
}

fn close(hub: &Hub, session: &Session, reason: &str) {
    hub.relay.cut_session(session.id);
    let message = revoked(session.id, reason);
    let to_cluster = cluster_down::Message::Revoked(message.clone());
    hub.links.tell_teamspace(session.teamspace, &to_cluster);
    hub.links.tell_laptop(session.device, laptop_down::Message::Revoked(message));
}

struct Differences {
    ended: Vec<Session>,
    begun: Vec<Session>,
}

fn differences(before: &Live, now: &Live) -> Differences {
    let missing = |from: &Live, other: &Live| {
        from.values().filter(|session| !other.contains_key(&session.id)).cloned().collect()
    };
    Differences { ended: missing(before, now), begun: missing(now, before) }
}

#[cfg(test)]
mod tests {
    use fairlead_model::{Phase, Thumbprint, UserId};

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
}
