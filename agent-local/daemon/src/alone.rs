//! A daemon that `fairlead run` started without a supervisor: it ends when nobody needs it any more.

use std::{sync::Arc, time::Duration};

use tokio::time::timeout;
use tracing::info;

use crate::keeper::Keeper;

/// The next command of a script finds it still there.
const LINGER: Duration = Duration::from_secs(5);

/// Has the daemon stop when no session has lived for a while, unless somebody wants it to stay.
pub(crate) async fn end_when_unused(keeper: Arc<Keeper>) {
    let mut changes_rx = keeper.sessions().changes();
    loop {
        if is_needed(&keeper) {
            // The sender lives as long as the sessions.
            drop(changes_rx.changed().await);
            continue;
        }
        if timeout(LINGER, changes_rx.changed()).await.is_ok() {
            continue;
        }
        // Whoever begins something at this moment has finished, and the next one finds no daemon.
        let _acting = keeper.acting.lock().await;
        if !is_needed(&keeper) {
            info!("Nobody needs this daemon any more");
            keeper.stop();
            return std::future::pending().await;
        }
    }
}

fn is_needed(keeper: &Keeper) -> bool {
    keeper.stays() || keeper.sessions().all_live().next().is_some()
}

#[cfg(test)]
mod tests {
    use fairlead_model::TeamspaceId;

    use super::*;
    use crate::stage;

    #[tokio::test(start_paused = true)]
    async fn it_ends_after_its_last_session_unless_it_shall_stay() {
        let (_folder, keeper, stopping) = stage::keeper_that_stops();
        let id = stage::consume(&keeper, TeamspaceId::generate());
        let watch = tokio::spawn(end_when_unused(Arc::clone(&keeper)));
        let waits = Duration::from_secs(3600);
        timeout(waits, stopping.notified()).await.expect_err("a session lives");
        keeper.forget(id);
        timeout(waits, stopping.notified()).await.expect("nobody needs it");
        assert!(keeper.acting.try_lock().is_err(), "nobody begins anything at an ending daemon");
        watch.abort();

        let (_folder, keeper, stopping) = stage::keeper_that_stops();
        keeper.stay();
        tokio::spawn(end_when_unused(Arc::clone(&keeper)));
        timeout(waits, stopping.notified()).await.expect_err("it shall stay");
    }
}
