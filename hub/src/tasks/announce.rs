//! Tells agents and laptops what should be.
//!
//! The one place that says `Wanted` and `Revoked` and offers intercepts their carriers, so that nothing said later is
//! older than what was said before. It remembers which sessions were live when it last looked; what is missing now
//! has ended: both ends are told, and its carriers are cut, whoever ended it and in whichever process.

use std::{collections::BTreeSet, time::Duration};

use fairlead_model::{
    DeviceId, OrgId, SessionId, SessionKind, TeamspaceId, timers::LEAVE_WAY_OPEN,
};
use fairlead_wire::link::v1::{Wanted, cluster_down, laptop_down};
use hub_store::{EndCause, Session, StoreError};
use tokio::{sync::mpsc, time};

use super::{
    LIVE,
    changes::ToAnnounce,
    for_each_organization,
    known::{Differences, Known, Live, differences},
};
use crate::{
    Hub,
    actions::renew,
    links::{offer_intercept, revoked, wanted_session},
};

/// A hint may get lost; looking again after this long repairs it.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

pub(super) async fn run(hub: Hub, mut announce_rx: mpsc::Receiver<ToAnnounce>) {
    let mut task = Announcer { hub, known: Known::default() };
    let mut again = time::interval(LOOK_AGAIN);
    again.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    loop {
        let first = tokio::select! {
            what = announce_rx.recv() => what.unwrap_or(ToAnnounce::Everything),
            _ = again.tick() => ToAnnounce::Everything,
        };
        for what in with_what_waits(first, &mut announce_rx) {
            if let Err(error) = task.announce(what).await {
                tracing::warn!(%error, "What should be could not be announced; it will be soon");
            }
        }
    }
}

/// Returns what waits, each thing once and in its order: the first look at it sees what all of its hints were about.
fn with_what_waits(
    first: ToAnnounce,
    announce_rx: &mut mpsc::Receiver<ToAnnounce>,
) -> Vec<ToAnnounce> {
    let mut waiting = vec![first];
    while let Ok(next) = announce_rx.try_recv() {
        if !waiting.contains(&next) {
            waiting.push(next);
        }
    }
    waiting
}

struct Announcer {
    hub: Hub,
    known: Known,
}

/// Sessions that were not there, or are not any more, since the last look.
#[derive(Debug, Default)]
struct Changed {
    begun: BTreeSet<SessionId>,
    ended: BTreeSet<SessionId>,
}

impl Announcer {
    async fn announce(&mut self, what: ToAnnounce) -> Result<(), StoreError> {
        match what {
            ToAnnounce::Organization(org) => self.organization(org).await.map(drop),
            ToAnnounce::Teamspaces(org) => {
                self.organization(org).await?;
                self.drop_closed(org).await
            }
            ToAnnounce::Replica(org, teamspace, name) => self.replica(org, teamspace, &name).await,
            ToAnnounce::Laptop(org, device, welcomed) => self.laptop(org, device, &welcomed).await,
            ToAnnounce::Laptops(org) => self.laptops(org).await,
            ToAnnounce::Everything => {
                let mut orgs: BTreeSet<_> = self.hub.links.organizations();
                orgs.extend(self.known.organizations());
                for_each_organization("Announcing", orgs, self, |announcer, org| {
                    Box::pin(async move {
                        announcer.organization(org).await?;
                        announcer.drop_closed(org).await
                    })
                })
                .await;
                Ok(())
            }
        }
    }

    /// Compares the organization's live sessions with those known before, and tells whom it concerns. Those that have
    /// begun are offered their carriers.
    async fn organization(&mut self, org: OrgId) -> Result<Changed, StoreError> {
        let now = self.live(org).await?;
        let before = self.known.replace(org, now.clone());
        let Differences { ended, begun } = differences(&before, &now);
        let ids = |sessions: &[Session]| sessions.iter().map(|session| session.id).collect();
        let changed = Changed { begun: ids(&begun), ended: ids(&ended) };
        let touched: BTreeSet<_> = ended.iter().chain(&begun).map(|s| s.teamspace).collect();
        for session in ended {
            self.tell_ended(session).await;
        }
        for teamspace in touched {
            let wanted = cluster_down::Message::Wanted(wanted(&now, teamspace));
            self.hub.links.tell_teamspace(teamspace, &wanted);
        }
        for session in &begun {
            for replica in self.hub.links.replicas(session.teamspace) {
                offer_intercept(&self.hub, session, &replica).await;
            }
        }
        Ok(changed)
    }

    /// A teamspace that was deleted or locked, or whose cluster was forgotten, keeps no link.
    async fn drop_closed(&self, org: OrgId) -> Result<(), StoreError> {
        let teamspaces = self.hub.store.scoped(org).teamspaces().await?.into_iter();
        let open = teamspaces.filter(|teamspace| teamspace.lock_reason.is_none());
        let open = open.filter_map(|teamspace| Some((teamspace.id, teamspace.enrolment?.key)));
        self.hub.links.drop_all_but(org, &open.collect());
        Ok(())
    }

    /// A replica that has connected hears everything that should be, and gets its carriers of running intercepts.
    async fn replica(
        &mut self,
        org: OrgId,
        teamspace: TeamspaceId,
        name: &str,
    ) -> Result<(), StoreError> {
        let begun = self.organization(org).await?.begun;
        let live = self.known.of(org);
        let wanted = cluster_down::Message::Wanted(wanted(&live, teamspace));
        self.hub.links.tell_replica(teamspace, name, wanted);
        let others = live.values().filter(|session| !begun.contains(&session.id));
        for session in others.filter(|session| session.teamspace == teamspace) {
            offer_intercept(&self.hub, session, name).await;
        }
        // It may have been closed while the replica was connecting.
        self.drop_closed(org).await
    }

    /// A laptop that has connected gets fresh grants and its carriers of running intercepts. What its welcome named and
    /// has ended since was announced to nobody, unless this look was the first to miss it.
    async fn laptop(
        &mut self,
        org: OrgId,
        device: DeviceId,
        welcomed: &[SessionId],
    ) -> Result<(), StoreError> {
        let Changed { begun, ended } = self.organization(org).await?;
        let live = self.known.of(org);
        for gone in welcomed.iter().filter(|id| !live.contains_key(id) && !ended.contains(id)) {
            let message = revoked(*gone, "it ended while you were connecting");
            self.hub.links.tell_laptop(device, laptop_down::Message::Revoked(message));
        }
        for session in live.values().filter(|session| session.device == device) {
            match session.kind() {
                SessionKind::Consume => {
                    renew::and_log(&self.hub, session, renew::Sent::Always).await;
                }
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
        // Before we ask: whoever connects meanwhile has just been looked at.
        let connected = self.hub.links.laptops(org);
        let now = self.hub.clock.now();
        let signed_in = self.hub.store.scoped(org).signed_in_devices(None, now).await?;
        for device in connected.into_iter().filter(|device| !signed_in.contains(device)) {
            self.hub.links.drop_laptop(device);
        }
        Ok(())
    }

    /// Ends the link of a laptop whose device was removed or signed out, or whose user is no longer a member.
    async fn drop_unless_known(&self, org: OrgId, id: DeviceId) -> Result<(), StoreError> {
        let scope = self.hub.store.scoped(org);
        let known = match scope.device(id).await? {
            Some(device) => {
                scope.is_signed_in(&device, self.hub.clock.now()).await?
                    && scope.caller_of(device.user_id).await?.is_some()
            }
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
                time::sleep(LEAVE_WAY_OPEN).await;
                close(&hub, &session, &reason);
            });
        } else {
            close(&hub, &session, &reason);
        }
    }

    async fn live(&self, org: OrgId) -> Result<Live, StoreError> {
        let sessions = self.hub.store.scoped(org).sessions(LIVE).await?;
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

fn wanted(live: &Live, teamspace: TeamspaceId) -> Wanted {
    let sessions = live.values().filter(|session| session.teamspace == teamspace);
    Wanted { sessions: sessions.map(wanted_session).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_hints_about_the_same_each_is_one_look_and_none_overtakes() {
        let (org, other, laptop) = (OrgId::generate(), OrgId::generate(), DeviceId::generate());
        let connected = ToAnnounce::Laptop(org, laptop, Vec::new());
        let (of_org, of_other) = (ToAnnounce::Organization(org), ToAnnounce::Organization(other));
        let (announce_tx, mut announce_rx) = mpsc::channel(8);
        for what in [&of_other, &connected, &of_org, &of_other] {
            announce_tx.try_send(what.clone()).expect("there is room");
        }
        let waiting = with_what_waits(of_org.clone(), &mut announce_rx);
        assert_eq!(waiting, [of_org, of_other, connected]);
    }
}
