//! Orphans: sessions of this laptop that live at the hub and that nobody here holds. The answer to their beginning was
//! lost, their end could not be told, or the file of what should be was damaged.
//!
//! The hub renews what lives for as long as this laptop is there, and names it: all of it in the welcome, each session
//! with its fresh grant. So an orphan that could not be ended is named again.

use std::sync::Arc;

use fairlead_model::SessionId;
use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::keeper::Keeper;

/// What does not fit is named again.
const QUEUE: usize = 64;

/// A hold on the task that ends them.
pub(crate) struct Orphans(mpsc::Sender<Vec<SessionId>>);

impl Orphans {
    /// Starts the task.
    pub(crate) fn begin(keeper: Arc<Keeper>) -> Self {
        let (named_tx, mut named_rx) = mpsc::channel(QUEUE);
        tokio::spawn(async move {
            while let Some(named) = named_rx.recv().await {
                for id in not_held(&keeper, named).await {
                    end(&keeper, id).await;
                }
            }
        });
        Self(named_tx)
    }

    /// Takes note of sessions that the hub names as live.
    pub(crate) fn are_among(&self, named: Vec<SessionId>) {
        drop(self.0.try_send(named));
    }
}

/// Looks while no command is under way: whichever had begun a session before the hub named it, holds it by now.
async fn not_held(keeper: &Keeper, mut named: Vec<SessionId>) -> Vec<SessionId> {
    let _acting = keeper.acting.lock().await;
    let sessions = keeper.sessions();
    named.retain(|id| sessions.live(*id).is_none());
    named
}

async fn end(keeper: &Keeper, id: SessionId) {
    match keeper.tell_hub_of_end(id).await {
        Ok(()) => info!(session = %id, "Ended at the hub, since nobody here holds it"),
        Err(failure) => warn!(session = %id, "Nobody here holds it, and it lives on: {failure}"),
    }
}

#[cfg(test)]
mod tests {
    use fairlead_model::TeamspaceId;
    use fairlead_wire::link::v1::{Grant, LaptopWelcome, laptop_down::Message as Down};
    use tokio::task::yield_now;

    use super::*;
    use crate::{
        hearing, link::Said, session::Origin, sessions::tests, stage, stage::hub::Hub as StageHub,
    };

    #[tokio::test]
    async fn what_the_hub_names_and_nobody_holds_is_ended_unless_it_is_just_being_begun() {
        let (_folder, keeper) = stage::keeper();
        let mut hub = StageHub::of(&keeper);
        let held = stage::consume(&keeper, TeamspaceId::generate());
        let begun = tests::consume(TeamspaceId::generate()).desired;
        let [lost, missed] = [SessionId::generate(), SessionId::generate()];
        let (said_tx, said_rx) = mpsc::channel(1);
        tokio::spawn(hearing::follow_link(Arc::clone(&keeper), said_rx));

        let command = keeper.acting.lock().await;
        let live_sessions = [held, begun.id, lost].map(|id| id.to_string()).to_vec();
        let welcome = LaptopWelcome { live_sessions, ..LaptopWelcome::default() };
        said_tx.send(Said::Welcome(welcome)).await.expect("heard");
        while said_tx.capacity() == 0 {
            yield_now().await;
        }
        yield_now().await;
        keeper.keep(begun, Origin::Begun);
        drop(command);
        assert_eq!(hub.is_asked_to_end().await, lost);

        let grant = Grant { session_id: missed.to_string(), ..Grant::default() };
        said_tx.send(Said::Message(Down::Grant(grant))).await.expect("heard");
        assert_eq!(hub.is_asked_to_end().await, missed);
        assert_eq!(keeper.sessions().desired().len(), 2, "what is held goes on");
    }
}
