//! Hears what changes in the database, on this hub and on every other, and passes the hints on.

use std::time::Duration;

use hub_store::{StoreError, notify::Heard};

use crate::Hub;

const RETRY: Duration = Duration::from_secs(1);

pub(super) async fn run(hub: Hub) {
    loop {
        let Err(error) = listen(&hub).await else { continue };
        tracing::warn!(%error, "Changes cannot be heard; trying again");
        tokio::time::sleep(RETRY).await;
    }
}

async fn listen(hub: &Hub) -> Result<(), StoreError> {
    let mut changes = hub.store.listen().await?;
    // Whatever happened before there was a listener has not been heard.
    hub.changes.heard(Heard::Gap).await;
    loop {
        let heard = changes.next().await?;
        hub.changes.heard(heard).await;
    }
}
