//! Whether the laptop of an intercept is there: the beat over its carriers.
//!
//! Each replica has carriers of its own (`lanes.rs`; how many, `growing.rs`) and sees for itself: the laptop is there
//! while one of them answers. Requests ask here for a way to the laptop (`opening.rs`); when there is none they go to the
//! pods. Replicas tell each other what they see (`peers/`), and the writer ends an intercept when no replica has seen the
//! laptop for the grace (`sight.rs`). An intercept that was ended stays ended: a laptop that returns later has to ask the
//! hub again.

mod growing;
mod opening;
mod sight;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use fairlead_model::{SessionId, timers};
use fairlead_tunnel::{
    carrier::{CarrierHandle, Driver},
    opener::Opener,
};
use tokio::{
    sync::{Notify, watch},
    task::AbortHandle,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

pub(crate) use self::{
    opening::Taken,
    sight::{HoldSeen, Sight, Verdict, verdict},
};
use super::lanes::{self, Kind, Lane};

/// One replica's end of one session.
#[derive(Clone, Debug)]
pub(crate) struct Hold {
    session: SessionId,
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    seen: watch::Sender<HoldSeen>,
    lanes: watch::Sender<Vec<Lane>>,
    /// Cuts everything; `ended` comes first and only lets nothing new begin.
    over: CancellationToken,
    ended: AtomicBool,
    /// Rung at every change of `seen`.
    news: Arc<Notify>,
}

impl Hold {
    pub(crate) fn new(session: SessionId, news: Arc<Notify>) -> Self {
        let inner = Inner {
            seen: watch::Sender::new(HoldSeen::waiting()),
            lanes: watch::Sender::new(Vec::new()),
            over: CancellationToken::new(),
            ended: AtomicBool::new(false),
            news,
        };
        Self { session, inner: Arc::new(inner) }
    }

    pub(crate) fn seen(&self) -> HoldSeen {
        self.inner.seen.borrow().clone()
    }

    /// Changes what is seen; `change` says whether it did.
    fn see(&self, change: impl FnOnce(&mut HoldSeen) -> bool) -> bool {
        let changed = self.inner.seen.send_if_modified(change);
        if changed {
            self.inner.news.notify_one();
        }
        changed
    }

    /// Takes a new carrier into use; a first one takes the place of the first one before. Ends with the carrier, and
    /// dropped it ends the carrier: a laptop whose beat nobody asks for is not seen.
    pub(crate) async fn carry(&self, opener: Opener, driver: Driver, kind: Kind) {
        let ends = self.inner.over.child_token();
        let handle = opener.handle().clone();
        self.inner.lanes.send_modify(|lanes| {
            lanes::take_in(lanes, Lane::new(opener.clone(), kind, ends.clone()));
        });
        self.look();
        let driver = tokio::spawn(driver).abort_handle();
        let carried = Carried { hold: self, opener, driver, ends };
        tokio::select! {
            () = self.beat(&carried.opener) => {}
            () = self.spare(&handle), if kind == Kind::Further => {
                info!(session = %self.session, "A further carrier is not needed any more");
            }
            () = carried.ends.cancelled() => {}
        }
    }

    /// Asks once a second whether the laptop is there, until the carrier ends.
    async fn beat(&self, opener: &Opener) {
        let patience = timers::INTERCEPT_BEAT * (timers::INTERCEPT_BEATS_MISSED - 1);
        loop {
            tokio::select! {
                end = opener.closed() => {
                    info!(session = %self.session, ?end, "A carrier of an intercept ended");
                    return;
                }
                () = tokio::time::sleep(timers::INTERCEPT_BEAT) => {}
            }
            match opener.beat(patience).await {
                Ok(_) => self.lane_of(opener.handle(), |lane| lane.answers = true),
                Err(silence) => {
                    debug!(session = %self.session, ?silence, "The laptop does not answer");
                    // Everything under way is cut, so that clients notice at once; what comes next goes elsewhere.
                    self.lane_of(opener.handle(), Lane::falls_silent);
                }
            }
        }
    }

    fn drop_lane(&self, handle: &CarrierHandle) {
        self.inner.lanes.send_modify(|lanes| lanes.retain(|lane| !lane.is_on(handle)));
        self.look();
    }

    /// Changes one lane, if it is still there, and what is seen by it.
    fn lane_of(&self, handle: &CarrierHandle, change: impl FnOnce(&mut Lane)) {
        self.inner.lanes.send_if_modified(|lanes| {
            if let Some(lane) = lanes.iter_mut().find(|lane| lane.is_on(handle)) {
                change(lane);
            }
            false
        });
        self.look();
    }

    /// One lane that answers is enough to see the laptop.
    fn look(&self) {
        let mut became = None;
        self.see(|seen| {
            // Looked at under the lock of what is seen, so that the last to look has seen the last change.
            let answers = self.inner.lanes.borrow().iter().any(|lane| lane.answers);
            let sight = if answers { Sight::Live } else { Sight::Away };
            let changed = seen.sight != sight;
            if changed {
                *seen = HoldSeen { sight, ..HoldSeen::waiting() };
                became = Some(sight);
            }
            changed
        });
        if let Some(sight) = became {
            info!(session = %self.session, ?sight, "The laptop of an intercept is {sight:?}");
        }
    }

    /// Ends the session here for good: nothing new goes to the laptop, and what is there is cut a moment later. A
    /// revocation does not wait for that: the hub closes the carrier itself.
    pub(crate) fn end(&self) {
        if self.inner.ended.swap(true, Ordering::Relaxed) {
            return;
        }
        let over = self.inner.over.clone();
        tokio::spawn(async move {
            tokio::time::sleep(timers::LEAVE_FINISH).await;
            over.cancel();
        });
    }
}

/// A carrier in use; takes everything of it along when it goes.
struct Carried<'a> {
    hold: &'a Hold,
    opener: Opener,
    driver: AbortHandle,
    ends: CancellationToken,
}

impl Drop for Carried<'_> {
    fn drop(&mut self) {
        self.opener.close();
        self.driver.abort();
        self.ends.cancel();
        self.hold.drop_lane(self.opener.handle());
    }
}

#[cfg(test)]
mod tests {
    use fairlead_model::Port;
    use fairlead_tunnel::{Acceptor, Incoming};
    use tokio_util::task::AbortOnDropHandle;

    use super::*;
    use crate::pair::{Met, Pair, until};

    #[tokio::test]
    async fn a_carrier_that_is_cut_is_not_seen_any_more() {
        let Met { acceptor: _acceptor, accepting, opener, opening } =
            Pair::new().intercepts().await;
        let hold = Hold::new(SessionId::generate(), Arc::default());
        let held = hold.clone();
        let carrying = tokio::spawn(async move { held.carry(opener, opening, Kind::First).await });
        until(|| hold.seen().sight == Sight::Live).await;
        carrying.abort();
        until(|| hold.seen().sight == Sight::Away).await;
        assert!(hold.inner.lanes.borrow().is_empty());
        accepting.await.expect("its end is seen at the laptop");
    }

    #[tokio::test]
    async fn the_laptop_is_there_while_one_of_its_carriers_is() {
        let mut held = Held::with(&[Kind::First, Kind::Further, Kind::Further]).await;
        let sight = |held: &Held| held.hold.seen().sight;
        for left in [2, 1] {
            held.carriers.swap_remove(1).handle.close();
            until(|| held.hold.inner.lanes.borrow().len() == left).await;
            assert_eq!(sight(&held), Sight::Live);
            held.opens().await.expect("the first one lives");
        }
        held.gets(Kind::Further).await;
        held.carriers.remove(0).handle.close();
        until(|| held.hold.inner.lanes.borrow().len() == 1).await;
        assert_eq!(sight(&held), Sight::Live, "a further one is enough");
        held.carriers.remove(0).handle.close();
        until(|| sight(&held) == Sight::Away).await;
    }

    /// A hold in use, and the laptop's end of each of its carriers.
    pub(super) struct Held {
        pub(super) hold: Hold,
        pub(super) carriers: Vec<Carried>,
    }

    pub(super) struct Carried {
        pub(super) handle: CarrierHandle,
        _carrying: AbortOnDropHandle<()>,
        _laptop: AbortOnDropHandle<()>,
    }

    impl Held {
        pub(super) async fn with(kinds: &[Kind]) -> Self {
            let mut held = Self {
                hold: Hold::new(SessionId::generate(), Arc::default()),
                carriers: Vec::new(),
            };
            for kind in kinds {
                held.gets(*kind).await;
            }
            held
        }

        pub(super) async fn gets(&mut self, kind: Kind) {
            let Met { acceptor, opener, opening, .. } = Pair::new().intercepts().await;
            let (hold, handle) = (self.hold.clone(), opener.handle().clone());
            let carrying = tokio::spawn(async move { hold.carry(opener, opening, kind).await });
            let before = self.hold.inner.lanes.borrow().len();
            until(|| self.hold.inner.lanes.borrow().len() > before).await;
            self.carriers.push(Carried {
                handle,
                _carrying: AbortOnDropHandle::new(carrying),
                _laptop: AbortOnDropHandle::new(tokio::spawn(accept_each(acceptor))),
            });
        }

        pub(super) async fn opens(&self) -> Option<Taken> {
            let service = "shop/cart".parse().expect("valid");
            self.hold.open(&service, Port::new(80).expect("a port"), false).await
        }

        pub(super) fn streams(&self) -> Vec<usize> {
            self.carriers.iter().map(|carried| carried.handle.streams()).collect()
        }
    }

    async fn accept_each(mut acceptor: Acceptor) {
        let mut streams = tokio::task::JoinSet::new();
        while let Some(incoming) = acceptor.next().await {
            let Incoming::Open(offered) = incoming else { continue };
            let mut stream = offered.accept().expect("still wanted");
            // An application that reads.
            streams
                .spawn(async move { tokio::io::copy(&mut stream, &mut tokio::io::sink()).await });
        }
    }
}
