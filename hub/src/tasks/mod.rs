//! What the hub does without being asked: reconcilers that read what is, compare it with what should be, and act.
//!
//! Each is safe to run twice, and none depends on having heard of every change: hints wake them early, a clock wakes
//! them anyway.

mod announce;
mod changes;
mod claim;
mod expire_sessions;
mod known;
mod listen;
mod prune;
mod reconsider;
mod renew_grants;

use std::pin::Pin;

use fairlead_model::OrgId;
use hub_store::{Filter, StoreError};

pub use changes::Changes;
pub(crate) use claim::win as claim;
pub use claim::{Kept, NoClaim};

use crate::Hub;

/// The sessions that these tasks look after.
const LIVE: Filter = Filter { only_live: true, teamspace: None, device: None, user: None };

/// Starts every task. They end when `hub.stopping` is cancelled; the claim on the database is kept beyond that, for
/// whatever is still written on the way out.
pub async fn start(hub: &Hub) -> Result<Kept, StoreError> {
    hub.store
        .unscoped("links of a hub that ran before this one are gone")
        .forget_replicas(hub.clock.now())
        .await?;
    let inboxes = hub.changes.take_inboxes();
    let run = |name: &'static str, task: Pin<Box<dyn Future<Output = ()> + Send>>| {
        let stopping = hub.stopping.clone();
        hub.tasks.spawn(async move {
            tokio::select! {
                () = stopping.cancelled() => {}
                () = task => tracing::error!(name, "A task ended that never should"),
            }
        });
    };
    run("listen", Box::pin(listen::run(hub.clone())));
    run("announce", Box::pin(announce::run(hub.clone(), inboxes.announce_rx)));
    run("reconsider", Box::pin(reconsider::run(hub.clone(), inboxes.reconsider_rx)));
    run("renew_grants", Box::pin(renew_grants::run(hub.clone())));
    run("expire_sessions", Box::pin(expire_sessions::run(hub.clone())));
    run("prune", Box::pin(prune::run(hub.clone())));
    Ok(Kept::start(hub))
}

type Work<'s> = Pin<Box<dyn Future<Output = Result<(), StoreError>> + Send + 's>>;

/// Does `work` for one organization after the other. Where it fails the log says so and the next one has its turn: a
/// damaged row of one tenant is no matter of the others.
async fn for_each_organization<S>(
    what: &'static str,
    organizations: impl IntoIterator<Item = OrgId>,
    state: &mut S,
    work: for<'s> fn(&'s mut S, OrgId) -> Work<'s>,
) {
    for organization in organizations {
        if let Err(error) = work(state, organization).await {
            tracing::warn!(%organization, %error, "{what}: not done for this organization; it will be tried again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_organization_that_fails_does_not_keep_the_others_waiting() {
        let organizations: Vec<_> = (0..3).map(|_| OrgId::generate()).collect();
        let mut done = Vec::new();
        for_each_organization("a test", organizations.clone(), &mut done, |done, organization| {
            done.push(organization);
            let fails = done.len() == 2;
            Box::pin(async move {
                if fails { Err(StoreError::NotFound { noun: "row" }) } else { Ok(()) }
            })
        })
        .await;
        assert_eq!(done, organizations);
    }
}
