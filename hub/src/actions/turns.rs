//! One at a time decides about a session: its owner changes what it is about, the catalogue changes, its grant is due.
//!
//! So the grants of a session leave the hub in the order of the decisions behind them, and the laptop can tell by their
//! ids, which count up, which one is the last.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use fairlead_model::SessionId;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

#[derive(Debug, Default)]
pub struct Turns(Mutex<HashMap<SessionId, Weak<AsyncMutex<()>>>>);

impl Turns {
    /// Waits for one's turn with a session, which ends with what is returned.
    pub(super) async fn of(&self, session: SessionId) -> OwnedMutexGuard<()> {
        self.turn(session).lock_owned().await
    }

    fn turn(&self, session: SessionId) -> Arc<AsyncMutex<()>> {
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(turn) = turns.get(&session).and_then(Weak::upgrade) {
            return turn;
        }
        turns.retain(|_, turn| turn.strong_count() > 0);
        let turn = Arc::default();
        turns.insert(session, Arc::downgrade(&turn));
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_second_waits_for_the_first_and_for_nobody_else() {
        let (turns, session) = (Turns::default(), SessionId::generate());
        let first = turns.of(session).await;
        drop(turns.of(SessionId::generate()).await);
        let turn = turns.turn(session);
        assert!(turn.try_lock().is_err());
        drop(first);
        assert!(turn.try_lock().is_ok());
        drop(turn);
        drop(turns.of(SessionId::generate()).await);
        assert_eq!(turns.0.lock().expect("unpoisoned").len(), 1, "nobody waits for the others");
    }
}
