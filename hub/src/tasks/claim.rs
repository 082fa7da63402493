//! One hub serves a database at a time. A hub that starts waits a while for another to end, and then does not start.

use std::time::Duration;

use hub_store::{Claim, Claimed, Store, StoreError};
use tokio::{
    sync::oneshot,
    time::{self, Instant},
};

use crate::Hub;

/// A hub that is being replaced has ended by then, and one whose machine has vanished is found out.
const PATIENCE: Duration = Duration::from_secs(15);
const LOOK: Duration = Duration::from_secs(1);
/// How often the claim is looked at once it is held.
const BEAT: Duration = Duration::from_secs(2);
/// A database that has said nothing for this long has lost our connection, and may have given the claim away. Not less
/// than others wait: a slow database shall not hand the claim to whoever is in line.
const ANSWER: Duration = PATIENCE;

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
pub(crate) async fn win(store: &Store, replica: &str) -> Result<Claim, NoClaim> {
    let deadline = Instant::now() + PATIENCE;
    let mut told = false;
    loop {
        let other = match store.claim(replica).await? {
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

/// Keeps the claim, and takes it again when its connection was lost. Ends, and says so, when another hub was faster: it
/// has taken our links for lost.
pub(super) async fn keep(hub: Hub, mut claim: Option<Claim>, lost_tx: oneshot::Sender<NoClaim>) {
    let mut beat = time::interval(BEAT);
    beat.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    loop {
        beat.tick().await;
        if is_held(claim.as_mut()).await {
            continue;
        }
        // Its connection may be half open, and would keep us out.
        claim = None;
        match time::timeout(ANSWER, hub.store.claim(&hub.replica)).await {
            Ok(Ok(Claimed::Ours(again))) => claim = Some(again),
            // The one that was lost: Postgres has not seen its end yet.
            Ok(Ok(Claimed::Theirs(other))) if other == hub.replica => {}
            Ok(Ok(Claimed::Theirs(other))) => {
                // Nobody waits for it any more where the hub stops.
                let _stopping = lost_tx.send(NoClaim::Theirs { other });
                return;
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "The claim on the database was lost; it will be taken again");
            }
            Err(_) => tracing::warn!("The database does not answer; it will be claimed again"),
        }
    }
}

async fn is_held(claim: Option<&mut Claim>) -> bool {
    match claim {
        Some(claim) => time::timeout(ANSWER, claim.is_held()).await.is_ok_and(|held| held.is_ok()),
        None => false,
    }
}
