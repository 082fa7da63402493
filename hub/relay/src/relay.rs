//! The relay as the hub holds it: offers carriers and cuts them.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use fairlead_model::{CarrierId, SessionId};
use tokio::{
    sync::{Notify, Semaphore},
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    carriers::{Carriers, Redeemed, TicketRefused},
    nouns::{CarrierMeta, Limits, Offer, OfferRefused},
};

/// Joins carriers that were offered. Clones share it.
#[derive(Clone)]
pub struct Relay {
    shared: Arc<Shared>,
}

struct Shared {
    carriers: Mutex<Carriers>,
    strangers: Arc<Semaphore>,
    stopping: CancellationToken,
    one_less: Notify,
}

impl Relay {
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            shared: Arc::new(Shared {
                carriers: Mutex::new(Carriers::new(limits)),
                strangers: Arc::new(Semaphore::new(limits.strangers)),
                stopping: CancellationToken::new(),
                one_less: Notify::new(),
            }),
        }
    }

    /// Makes the two tickets of a carrier. They are good for 30 seconds, once, each for its own side.
    pub fn offer(&self, meta: CarrierMeta) -> Result<Offer, OfferRefused> {
        self.carriers_mut().offer(meta, Instant::now())
    }

    /// Ends every carrier of a session at once, and returns how many those were.
    pub fn cut_session(&self, session: SessionId) -> usize {
        self.carriers_mut().cut(|meta| meta.session == session)
    }

    /// Offers and takes in nothing more, waits for the carriers to end by themselves, and cuts those that have not
    /// within `limit`. Returns how many had to be cut.
    pub async fn drain(&self, limit: Duration) -> usize {
        self.shared.stopping.cancel();
        self.carriers_mut().stop();
        if timeout(limit, self.all_ended()).await.is_ok() {
            return 0;
        }
        self.carriers_mut().cut(|_| true)
    }

    async fn all_ended(&self) {
        loop {
            let one_less = self.shared.one_less.notified();
            if self.carriers_mut().is_empty() {
                return;
            }
            one_less.await;
        }
    }

    pub(crate) fn redeem(
        &self,
        preface: &fairlead_wire::preface::Preface,
    ) -> Result<Redeemed, TicketRefused> {
        self.carriers_mut().redeem(&preface.ticket, preface.side, Instant::now())
    }

    pub(crate) fn forget(&self, carrier: CarrierId) {
        self.carriers_mut().remove(carrier);
        self.shared.one_less.notify_waiters();
    }

    pub(crate) fn strangers(&self) -> &Arc<Semaphore> {
        &self.shared.strangers
    }

    pub(crate) fn stopping(&self) -> &CancellationToken {
        &self.shared.stopping
    }

    /// Held for bookkeeping only, never while anything is awaited.
    fn carriers_mut(&self) -> MutexGuard<'_, Carriers> {
        self.shared.carriers.lock().expect("nothing panics while it holds the bookkeeping")
    }
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Relay")
    }
}
