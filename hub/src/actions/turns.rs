//! One at a time decides about a session: its owner changes what it is about, the catalogue changes, its grant is due.
//!
//! So the grants of a session leave the hub in the order of the decisions behind them, and the laptop can tell by their
//! ids, which count up, which one is the last.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use fairlead_model::SessionId;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

#[derive(Debug, Default)]
pub struct Turns(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    turns: HashMap<SessionId, Weak<AsyncMutex<()>>>,
    watches: Vec<Weak<Asked>>,
}

type Asked = Mutex<HashSet<SessionId>>;

/// The sessions about which somebody decides, or has asked to, since it began.
#[derive(Clone, Debug)]
pub(crate) struct Watch(Arc<Asked>);

impl Watch {
    /// Says whether nobody has had or wanted a turn of the session: what was read of it since the watch began is as it was.
    pub(super) fn saw_nobody_at(&self, session: SessionId) -> bool {
        !lock(&self.0).contains(&session)
    }
}

impl Turns {
    /// Waits for one's turn with a session, which ends with what is returned.
    pub(super) async fn of(&self, session: SessionId) -> OwnedMutexGuard<()> {
        self.turn(session).lock_owned().await
    }

    /// Notes from now on who takes turns; whoever has one at this moment or waits for it is noted, too.
    pub(crate) fn watch(&self) -> Watch {
        let mut inner = lock(&self.0);
        inner.watches.retain(|watch| watch.strong_count() > 0);
        let taken = inner.turns.iter().filter(|(_, turn)| turn.strong_count() > 0);
        let asked = Arc::new(Mutex::new(taken.map(|(session, _)| *session).collect()));
        inner.watches.push(Arc::downgrade(&asked));
        Watch(asked)
    }

    fn turn(&self, session: SessionId) -> Arc<AsyncMutex<()>> {
        let mut inner = lock(&self.0);
        for watch in inner.watches.iter().filter_map(Weak::upgrade) {
            lock(&watch).insert(session);
        }
        if let Some(turn) = inner.turns.get(&session).and_then(Weak::upgrade) {
            return turn;
        }
        inner.turns.retain(|_, turn| turn.strong_count() > 0);
        let turn = Arc::default();
        inner.turns.insert(session, Arc::downgrade(&turn));
        turn
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
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
        assert_eq!(lock(&turns.0).turns.len(), 1, "nobody waits for the others");
    }

    #[tokio::test]
    async fn who_had_a_turn_or_wants_one_is_seen() {
        let (turns, [before, has, then, other]) =
            (Turns::default(), [(); 4].map(|()| SessionId::generate()));
        drop(turns.of(before).await);
        let turn = turns.of(has).await;
        let watch = turns.watch();
        drop(turn);
        drop(turns.of(then).await);
        assert!(watch.saw_nobody_at(before) && watch.saw_nobody_at(other));
        assert!(!watch.saw_nobody_at(has) && !watch.saw_nobody_at(then));
        drop(watch);
        drop(turns.watch());
        assert_eq!(lock(&turns.0).watches.len(), 1, "those that ended are forgotten");
    }
}
