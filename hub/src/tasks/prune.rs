//! Removes credentials that have ended, so that what is stored is what counts.

use std::time::Duration;

use tokio::time;

use crate::Hub;

const LOOK: Duration = Duration::from_secs(3600);

pub(super) async fn run(hub: Hub) {
    let mut look = time::interval(LOOK);
    loop {
        look.tick().await;
        let store = hub.store.unscoped("credentials that have ended, of every organization");
        if let Err(error) = store.prune_credentials(hub.clock.now()).await {
            tracing::warn!(%error, "Ended credentials could not be removed");
        }
    }
}
