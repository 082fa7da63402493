//! Asking the hub for a carrier: which questions are open, and what answers them.

use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use fairlead_model::{SessionId, timers::LAPTOP_OFFER};
use fairlead_wire::link::v1::{CarrierOffer, CarrierRequest, laptop_up::Message as Up};
use tokio::{sync::oneshot, time::timeout};

use crate::link::LinkHandle;

type Reply = Result<CarrierOffer, NoOffer>;

/// Why there is no offer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoOffer {
    #[error("the hub is not connected")]
    NotConnected,
    #[error("the hub offered no carrier in time")]
    Late,
    /// The hub's own words.
    #[error("{0}")]
    Refused(String),
}

/// The open questions of this daemon.
#[derive(Debug)]
pub(crate) struct Offers {
    link: LinkHandle,
    requests: AtomicU64,
    pending: Mutex<HashMap<u64, oneshot::Sender<Reply>>>,
}

/// Forgets a question that nobody waits for any more.
struct Asked<'a> {
    offers: &'a Offers,
    request_id: u64,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.offers.pending().remove(&self.request_id);
    }
}

impl Offers {
    pub(crate) fn new(link: LinkHandle) -> Self {
        Self { link, requests: AtomicU64::new(1), pending: Mutex::default() }
    }

    /// Asks for a carrier to a replica (to any, when it is not named) and waits for the offer.
    pub(crate) async fn ask(&self, session: SessionId, replica: &str) -> Reply {
        let request_id = self.requests.fetch_add(1, Ordering::Relaxed);
        let (reply_tx, reply_rx) = oneshot::channel();
        self.pending().insert(request_id, reply_tx);
        let _asked = Asked { offers: self, request_id };
        let session_id = session.to_string();
        let request = CarrierRequest { session_id, replica: replica.to_owned(), request_id };
        if !self.link.say(Up::Carrier(request)) {
            return Err(NoOffer::NotConnected);
        }
        tokio::select! {
            reply = timeout(LAPTOP_OFFER, reply_rx) => match reply {
                Ok(Ok(reply)) => reply,
                Ok(Err(_)) | Err(_) => Err(NoOffer::Late),
            },
            // Nobody remembers the question.
            () = self.link.lost() => Err(NoOffer::NotConnected),
        }
    }

    /// Takes an offer to whoever asked for it; returns one that nobody asked for.
    pub(crate) fn take(&self, offer: CarrierOffer) -> Option<CarrierOffer> {
        let Some(reply_tx) = self.pending().remove(&offer.request_id) else { return Some(offer) };
        // Who asked may have given up.
        drop(reply_tx.send(Ok(offer)));
        None
    }

    /// Takes a refusal to whoever asked.
    pub(crate) fn refuse(&self, request_id: u64, reason: String) {
        if let Some(reply_tx) = self.pending().remove(&request_id) {
            drop(reply_tx.send(Err(NoOffer::Refused(reason))));
        }
    }

    fn pending(&self) -> MutexGuard<'_, HashMap<u64, oneshot::Sender<Reply>>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_question_is_over_with_the_link_on_which_it_was_asked() {
        let (link, stands_tx, mut said_rx) = LinkHandle::standing();
        let offers = Offers::new(link);
        let begun = Instant::now();
        let (reply, ()) = tokio::join!(offers.ask(SessionId::generate(), ""), async {
            said_rx.recv().await.expect("it asks");
            stands_tx.send_replace(None);
        });
        assert_eq!(reply, Err(NoOffer::NotConnected));
        assert_eq!(begun.elapsed(), std::time::Duration::ZERO, "nobody would have answered");
    }
}
