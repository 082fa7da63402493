//! One hub serves a database at a time. A hub that starts waits a while for another to end, and then does not start.

use std::time::Duration;

use hub_store::{Claim, Claimed, StoreError};
use tokio::time::{self, Instant};

use crate::Hub;

/// A hub that is being replaced has ended by then, and one whose machine has vanished is found out.
const PATIENCE: Duration = Duration::from_secs(15);
const LOOK: Duration = Duration::from_secs(1);
/// How often the claim is looked at once it is held.
const BEAT: Duration = Duration::from_secs(2);

#[derive(Debug, thiserror::Error)]
pub enum NoClaim {
    #[error(
        "another hub ({other}) serves this database, and two would take each other's links for lost: stop it first, or \
         give this one a database of its own"
    )]
    Theirs { other: String },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Waits until the database is ours.
pub(super) async fn win(hub: &Hub) -> Result<Claim, NoClaim> {
    let deadline = Instant::now() + PATIENCE;
    let mut told = false;
    loop {
        let other = match hub.store.claim(&hub.replica).await? {
            Claimed::Ours(claim) => return Ok(claim),
            Claimed::Theirs(other) => other,
        };
        if Instant::now() > deadline {
            return Err(NoClaim::Theirs { other });
        }
        if !told {
            tracing::warn!(other, "Another hub serves this database: waiting for it to end");
            told = true;
        }
        time::sleep(LOOK).await;
    }
}

/// Keeps the claim, and takes it again when its connection was lost.
pub(super) async fn keep(hub: Hub, claim: Claim) {
    let mut claim = Some(claim);
    let mut beat = time::interval(BEAT);
    beat.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    loop {
        beat.tick().await;
        let held = match &mut claim {
            Some(claim) => claim.is_held().await.is_ok(),
            None => false,
        };
        if !held {
            claim = again(&hub).await;
        }
    }
}

async fn again(hub: &Hub) -> Option<Claim> {
    match hub.store.claim(&hub.replica).await {
        Ok(Claimed::Ours(claim)) => Some(claim),
        Ok(Claimed::Theirs(other)) => {
            tracing::error!(other, "Another hub has taken this database: stop one of the two");
            None
        }
        Err(error) => {
            tracing::warn!(%error, "The claim on the database was lost; it will be taken again");
            None
        }
    }
}
