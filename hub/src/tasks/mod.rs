//! What the hub does without being asked: reconcilers that read what is, compare it with what should be, and act.
//!
//! Each is safe to run twice, and none depends on having heard of every change: hints wake them early, a clock wakes
//! them anyway.

mod announce;
mod changes;
mod expire_sessions;
mod listen;
mod prune;
mod reconsider;
mod renew_grants;

use hub_store::StoreError;

pub use changes::Changes;

use crate::Hub;

/// Starts every task. They end when `hub.stopping` is cancelled.
pub async fn start(hub: &Hub) -> Result<(), StoreError> {
    hub.store
        .unscoped("links of a hub that ran before this one are gone")
        .forget_replicas(hub.clock.now())
        .await?;
    let inboxes = hub.changes.take_inboxes();
    let run = |name: &'static str, task: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>| {
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
    Ok(())
}
