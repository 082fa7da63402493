//! The holds of all sessions on this replica: where carriers bring a laptop, and where listeners ask for one.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use fairlead_model::SessionId;
use tokio::sync::Notify;

use super::hold::{Hold, HoldSeen};

#[derive(Clone, Debug, Default)]
pub(crate) struct Holds {
    holds: Arc<Mutex<BTreeMap<SessionId, Hold>>>,
    news: Arc<Notify>,
}

impl Holds {
    /// Returns the hold of `session`, made now if there is none.
    pub(crate) fn of(&self, session: SessionId) -> Hold {
        let news = Arc::clone(&self.news);
        self.locked().entry(session).or_insert_with(|| Hold::new(session, news)).clone()
    }

    /// Ends every hold whose session should not be.
    pub(crate) fn retain(&self, wanted: impl Fn(SessionId) -> bool) {
        self.locked().retain(|session, hold| {
            let keep = wanted(*session);
            if !keep {
                hold.end();
            }
            keep
        });
    }

    pub(crate) fn seen(&self) -> Vec<(SessionId, HoldSeen)> {
        self.locked().iter().map(|(session, hold)| (*session, hold.seen())).collect()
    }

    /// Waits until any hold sees something else.
    pub(crate) async fn changed(&self) {
        self.news.notified().await;
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, BTreeMap<SessionId, Hold>> {
        self.holds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
