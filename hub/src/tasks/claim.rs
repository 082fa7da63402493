//! One hub serves a database at a time. A hub that starts waits a while for another to end, and then does not start.

use std::{sync::PoisonError, time::Duration};

use hub_store::{Claim, Claimed, Incarnation, Store, StoreError};
use tokio::{
    sync::oneshot,
    task::JoinHandle,
    time::{self, Instant},
};

use crate::Hub;

/// A hub that is being replaced has ended by then, and one whose machine has vanished is found out.
const PATIENCE: Duration = Duration::from_secs(15);
const LOOK: Duration = Duration::from_secs(1);
/// How often the claim is looked at once it is held.
const BEAT: Duration = Duration::from_secs(2);
/// A database that has not answered for this long is asked over another connection whose the claim is. Nothing is
/// concluded from the time alone: a slow database has lost nothing.
const ANSWER: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub enum NoClaim {
    #[error(
        "another hub ({other}) serves this database, and two would take each other's links for lost: stop it first, or \
         give this one a database of its own"
    )]
    Theirs { other: String },
    #[error(
        "the database is not the one any more that this hub has served: it was emptied, restored, or made anew. Start the \
         hub again: it serves what is there, and on an empty database it prints a setup link"
    )]
    Replaced,
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

/// The claim of a hub that serves, in the hands of a task. Dropping this leaves it there.
#[derive(Debug)]
pub struct Kept {
    task: JoinHandle<()>,
    lost_rx: oneshot::Receiver<NoClaim>,
}

impl Kept {
    pub(super) fn start(hub: &Hub) -> Self {
        let claim = hub.claim.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (lost_tx, lost_rx) = oneshot::channel();
        let task = tokio::spawn(keep(hub.store.clone(), hub.replica.clone(), claim, lost_tx));
        Self { task, lost_rx }
    }

    /// Ends when another hub has the database, or it is another database: this hub must stop then.
    pub(crate) async fn lost(&mut self) -> anyhow::Error {
        match (&mut self.lost_rx).await {
            Ok(lost) => lost.into(),
            Err(_) => anyhow::anyhow!("nothing keeps the claim on the database any more"),
        }
    }

    /// Lets the next hub have the database: the last thing that a hub does with it.
    pub(crate) async fn let_go(self) {
        self.task.abort();
        let _aborted = self.task.await;
    }
}

/// Keeps the claim, and takes it again when its connection was lost. Ends, and says so, when another hub was faster: it
/// has taken our links for lost. Likewise when the database is another one: what this hub knows by heart (keys, policies,
/// links) is of the one before, and an empty one has no tables.
async fn keep(
    store: Store,
    replica: String,
    mut claim: Option<Claim>,
    lost_tx: oneshot::Sender<NoClaim>,
) {
    let mut served = None;
    let mut beat = time::interval(BEAT);
    beat.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    loop {
        beat.tick().await;
        let lost = match seen_to(&store, &replica, claim.take()).await {
            Whose::Ours(held, database) => {
                claim = Some(held);
                (*served.get_or_insert_with(|| database.clone()) != database)
                    .then_some(NoClaim::Replaced)
            }
            Whose::Nobodys => None,
            Whose::Theirs(other) => Some(NoClaim::Theirs { other }),
        };
        if let Some(lost) = lost {
            // Nobody waits for it any more where the hub stops.
            let _stopping = lost_tx.send(lost);
            return;
        }
    }
}

/// Looks after the claim once, and takes it again where it is not held.
async fn seen_to(store: &Store, replica: &str, claim: Option<Claim>) -> Whose {
    let Some(held) = claim else { return claim_again(store, replica).await };
    match look(store, replica, held).await {
        // At once: whoever waits in line looks more often than we do.
        Whose::Nobodys => claim_again(store, replica).await,
        known => known,
    }
}

/// Who has the database.
#[derive(Debug)]
enum Whose {
    Ours(Claim, Incarnation),
    /// As far as is known.
    Nobodys,
    Theirs(String),
}

/// Looks whether the claim is still ours, however long Postgres takes to say so.
async fn look(store: &Store, replica: &str, mut held: Claim) -> Whose {
    let answer = tokio::select! {
        answer = held.is_held() => answer,
        lost = lost_elsewhere(store, replica) => return lost,
    };
    match answer {
        Ok(database) => Whose::Ours(held, database),
        Err(error) => {
            tracing::warn!(%error, "The claim on the database was lost; it will be taken again");
            Whose::Nobodys
        }
    }
}

/// Asks over other connections until one says that the claim is not ours. Postgres notices a connection that is half
/// open (the claim asks it to probe), and then says that nobody has the claim.
async fn lost_elsewhere(store: &Store, replica: &str) -> Whose {
    loop {
        time::sleep(ANSWER).await;
        match time::timeout(ANSWER, store.claim_holder()).await {
            Ok(Ok(Some(holder))) if holder == replica => {
                tracing::warn!("Postgres is slow; it says that the claim on the database stands");
            }
            Ok(Ok(Some(other))) => return Whose::Theirs(other),
            Ok(Ok(None)) => {
                tracing::warn!("Postgres has lost our connection; the database is claimed again");
                return Whose::Nobodys;
            }
            Ok(Err(error)) => tracing::warn!(%error, "Postgres does not answer"),
            Err(_) => tracing::warn!("Postgres does not answer"),
        }
    }
}

async fn claim_again(store: &Store, replica: &str) -> Whose {
    match time::timeout(ANSWER, claimed(store, replica)).await {
        Ok(Ok(whose)) => return whose,
        Ok(Err(error)) => tracing::warn!(%error, "The database cannot be claimed again yet"),
        Err(_) => tracing::warn!("Postgres does not answer; the database will be claimed again"),
    }
    Whose::Nobodys
}

/// Takes the claim if it can be had, and looks of which database it is.
async fn claimed(store: &Store, replica: &str) -> Result<Whose, StoreError> {
    Ok(match store.claim(replica).await? {
        Claimed::Ours(mut claim) => {
            let database = claim.is_held().await?;
            tracing::info!("The claim on the database is ours again");
            Whose::Ours(claim, database)
        }
        // The one that was lost: Postgres has not seen its end yet.
        Claimed::Theirs(other) if other == replica => Whose::Nobodys,
        Claimed::Theirs(other) => Whose::Theirs(other),
    })
}

#[cfg(test)]
mod tests {
    use private_postgres::TestDatabase;

    use super::*;

    #[tokio::test]
    async fn a_lost_claim_is_taken_again_at_the_look_that_finds_it_lost() {
        let database = tokio::task::spawn_blocking(|| TestDatabase::create().expect("Postgres"));
        let database = database.await.expect("no panic");
        let store = Store::connect(&database.url()).await.expect("Postgres answers");
        let claimed = store.claim("hub-1").await.expect("Postgres answers");
        let Claimed::Ours(claim) = claimed else { panic!("{claimed:?}") };
        end_connection_of("hub-1", &database);
        let whose = seen_to(&store, "hub-1", Some(claim)).await;
        assert!(matches!(whose, Whose::Ours(..)), "{whose:?}");
    }

    /// Returns when it is no more, and its locks with it.
    fn end_connection_of(name: &str, database: &TestDatabase) {
        let ended = database.rows(&format!(
            "select pg_terminate_backend(pid, 60000) from pg_stat_activity
             where datname = current_database() and application_name = '{name}'"
        ));
        assert_eq!(ended.expect("Postgres answers"), ["t"]);
    }
}
