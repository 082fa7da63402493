//! Decides again about live sessions when something changed that they were decided on: roles, policies, devices, the
//! catalogue. And now and then without any hint: one may get lost, and policies may speak of the time of day.

use std::{collections::HashSet, time::Duration};

use fairlead_model::{OrgId, TeamspaceId};
use hub_store::{Filter, Session, StoreError};
use tokio::{sync::mpsc, time};

use super::{
    LIVE,
    changes::{ToAnnounce, ToReconsider},
    for_each_organization,
};
use crate::{
    Hub,
    actions::{
        reconsider::{Reconsidered, reconsider},
        renew,
    },
};

const LOOK_AGAIN: Duration = Duration::from_secs(30);

pub(super) async fn run(hub: Hub, mut reconsider_rx: mpsc::Receiver<ToReconsider>) {
    let mut again = time::interval(LOOK_AGAIN);
    again.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    loop {
        let first = tokio::select! {
            what = reconsider_rx.recv() => what.unwrap_or(ToReconsider::Everything),
            _ = again.tick() => ToReconsider::Everything,
        };
        // A burst of hints about the same thing is one look at it.
        let mut pending = HashSet::from([first]);
        while let Ok(next) = reconsider_rx.try_recv() {
            pending.insert(next);
        }
        for what in pending {
            if let Err(error) = look_at(&hub, what).await {
                tracing::warn!(%error, "Live sessions could not be decided again; they will be soon");
            }
        }
    }
}

async fn look_at(hub: &Hub, what: ToReconsider) -> Result<(), StoreError> {
    match what {
        ToReconsider::Organization(org) => {
            sessions(hub, org, None).await?;
            // After its sessions: a laptop hears why they ended before its link does.
            hub.changes.announce(ToAnnounce::Laptops(org)).await;
            Ok(())
        }
        ToReconsider::Teamspace(org, teamspace) => sessions(hub, org, Some(teamspace)).await,
        ToReconsider::Everything => {
            let store = hub.store.unscoped("live sessions of every organization are decided again");
            let organizations = store.organizations_with_live_sessions().await?;
            for_each_organization("Deciding again", organizations, &mut hub.clone(), |hub, org| {
                Box::pin(sessions(hub, org, None))
            })
            .await;
            for org in hub.links.organizations() {
                hub.changes.announce(ToAnnounce::Laptops(org)).await;
            }
            Ok(())
        }
    }
}

async fn sessions(hub: &Hub, org: OrgId, teamspace: Option<TeamspaceId>) -> Result<(), StoreError> {
    for session in hub.store.scoped(org).sessions(Filter { teamspace, ..LIVE }).await? {
        one(hub, &session).await;
    }
    Ok(())
}

async fn one(hub: &Hub, session: &Session) {
    match reconsider(hub, session).await {
        Ok(Reconsidered::Stands { widened: false, .. }) => {}
        Ok(Reconsidered::Stands { widened: true, .. }) => renew::and_log(hub, session).await,
        Ok(Reconsidered::Ended { reason }) => {
            tracing::info!(session = %session.id, user = session.email, reason, "Session revoked");
        }
        Err(error) => {
            tracing::warn!(%error, session = %session.id, "A live session could not be decided again");
        }
    }
}
