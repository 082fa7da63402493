//! Whether the laptop of an intercept is there: the beat over its carriers, *away*, and the grace after which it is
//! lost. Requests ask here for a way to the laptop; when there is none they go to the pods.
//!
//! Each replica has carriers of its own (`lanes.rs`) and sees for itself: the laptop is there while one of them answers. Replicas tell each other what they see (`peers.rs`), and
//! the writer ends an intercept when no replica has seen the laptop for the grace. An intercept that was ended stays
//! ended: a laptop that returns later has to ask the hub again.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use fairlead_model::{Port, ServiceRef, SessionId, timers};
use fairlead_tunnel::{
    carrier::{CarrierHandle, Driver},
    opener::{OpenFailed, Opener},
    pool::{self, CARRIERS_MAX, GROW_AGAIN},
    stream::Stream,
};
use fairlead_wire::open::{OpenRequest, Refused};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{Notify, mpsc, watch},
    task::AbortHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::lanes::{self, Kind, Lane};

/// A laptop that asked for an intercept has this long to bring its first carrier.
const FIRST_CARRIER: Duration = timers::TICKET_LIFE;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Sight {
    /// No carrier yet.
    Waiting,
    Live,
    Away,
}

/// What one replica sees of one session's laptop; told to the other replicas as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HoldSeen {
    pub(crate) sight: Sight,
    /// Ports whose whole path was passed by a connection since the laptop was last away.
    pub(crate) proven: BTreeSet<u16>,
    /// What the laptop said when it could not take a connection.
    pub(crate) refusal: Option<String>,
}

impl HoldSeen {
    const fn waiting() -> Self {
        Self { sight: Sight::Waiting, proven: BTreeSet::new(), refusal: None }
    }
}

/// What all replicas together mean for a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Waiting,
    Live,
    Away,
    /// Never came.
    Absent,
    /// Was there, and was away for longer than the grace.
    Lost,
}

/// Judges a session wanted for `wanted_for`, whose laptop was last seen alive that long ago.
pub(crate) fn verdict(
    any_live: bool,
    since_live: Option<Duration>,
    wanted_for: Duration,
    grace: Duration,
) -> Verdict {
    match since_live {
        _ if any_live => Verdict::Live,
        Some(away_for) if away_for >= grace => Verdict::Lost,
        Some(_) => Verdict::Away,
        None if wanted_for >= FIRST_CARRIER.max(grace) => Verdict::Absent,
        None => Verdict::Waiting,
    }
}

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

/// A connection the laptop took, and the token that ends it when the laptop is away or the session over.
pub(crate) struct Taken {
    pub(crate) stream: Stream,
    pub(crate) cut: CancellationToken,
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

    /// Says that a further carrier is wanted, whenever there is bulk enough for one. Returns never.
    pub(crate) async fn grow(&self, wanted: &mpsc::Sender<SessionId>) {
        let mut lanes_rx = self.inner.lanes.subscribe();
        loop {
            pool::full(&mut lanes_rx).await;
            // A full queue is a hub that does not listen; it is said again below.
            let _said = wanted.try_send(self.session);
            // Until it is there, or has come to nothing.
            let _came = timeout(GROW_AGAIN, lanes_rx.changed()).await;
        }
    }

    /// Says whether one carrier more may stand beside those that are there.
    pub(crate) fn may_grow(&self) -> bool {
        let lanes = self.inner.lanes.borrow();
        (1..CARRIERS_MAX).contains(&lanes.iter().filter(|lane| lane.takes_streams()).count())
    }

    /// Returns when a further carrier has had no bulk for a while and what was open on it has ended.
    async fn spare(&self, handle: &CarrierHandle) {
        let mut lanes_rx = self.inner.lanes.subscribe();
        loop {
            handle.quiet().await;
            lanes_rx.mark_unchanged();
            let mut retired = false;
            self.inner.lanes.send_if_modified(|lanes| {
                retired = pool::retire(lanes, handle);
                false
            });
            if retired {
                return handle.unused().await;
            }
            // It is the only one that is left, and stays until there is another.
            if lanes_rx.changed().await.is_err() {
                return;
            }
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

    /// Opens a connection to the laptop's port, or says that it has to go to the pods.
    pub(crate) async fn open(
        &self,
        service: &ServiceRef,
        port: Port,
        probe: bool,
    ) -> Option<Taken> {
        let request = OpenRequest::tcp(self.session, service.clone(), port);
        let request = OpenRequest { probe, ..request };
        match timeout(timers::INTERCEPT_CONNECT, self.open_on_some_lane(&request)).await {
            Ok(Some(Ok(taken))) => {
                self.passed(port);
                Some(taken)
            }
            Ok(Some(Err(refused))) => {
                self.refused(port, refused.to_string());
                None
            }
            Ok(None) => None,
            Err(_) => {
                debug!(session = %self.session, "The laptop's port does not answer in time");
                self.is_doubted();
                None
            }
        }
    }

    /// Opens a stream on the best lane, and on the next one when that is lost; `None` when none is left.
    async fn open_on_some_lane(&self, request: &OpenRequest) -> Option<Result<Taken, Refused>> {
        while !self.inner.ended.load(Ordering::Relaxed) {
            let lane = lanes::place(&self.inner.lanes.borrow())?;
            match lane.opener.open(request).await {
                Ok(stream) => return Some(Ok(Taken { stream, cut: lane.cut.child_token() })),
                Err(OpenFailed::Refused(refused)) => return Some(Err(refused)),
                Err(failed) => {
                    debug!(session = %self.session, %failed, "A connection could not be opened at the laptop");
                    self.lane_of(lane.opener.handle(), |lane| lane.answers = false);
                }
            }
        }
        None
    }

    /// Requests go to the pods at once, whichever lane is to blame; the next beats show which of them answer.
    fn is_doubted(&self) {
        self.inner.lanes.send_if_modified(|lanes| {
            lanes.iter_mut().for_each(|lane| lane.answers = false);
            false
        });
        self.look();
    }

    fn passed(&self, port: Port) {
        self.see(|seen| {
            let news = seen.proven.insert(port.get()) || seen.refusal.is_some();
            seen.refusal = None;
            news
        });
    }

    fn refused(&self, port: Port, refusal: String) {
        self.see(|seen| {
            let news = seen.proven.remove(&port.get()) || seen.refusal.as_ref() != Some(&refusal);
            seen.refusal = Some(refusal);
            news
        });
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
    use fairlead_tunnel::{Acceptor, Incoming, pool::FURTHER_QUIET};
    use tokio::io::AsyncWriteExt as _;
    use tokio_util::task::AbortOnDropHandle;

    use super::*;
    use crate::pair::{Met, Pair, until};

    const GRACE: Duration = Duration::from_secs(15);

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn one_replica_that_sees_the_laptop_is_enough() {
        assert_eq!(verdict(true, Some(s(0)), s(100), GRACE), Verdict::Live);
    }

    #[test]
    fn a_laptop_is_away_until_the_grace_is_over() {
        assert_eq!(verdict(false, Some(s(14)), s(100), GRACE), Verdict::Away);
        assert_eq!(verdict(false, Some(s(15)), s(100), GRACE), Verdict::Lost);
    }

    #[test]
    fn no_grace_means_lost_at_once() {
        assert_eq!(verdict(false, Some(s(0)), s(1), s(0)), Verdict::Lost);
    }

    #[test]
    fn a_laptop_that_never_came_is_waited_for() {
        assert_eq!(verdict(false, None, s(29), GRACE), Verdict::Waiting);
        assert_eq!(verdict(false, None, s(30), GRACE), Verdict::Absent);
        assert_eq!(verdict(false, None, s(59), s(60)), Verdict::Waiting);
    }

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

    /// A hold in use, and the laptop's end of each of its carriers.
    struct Held {
        hold: Hold,
        carriers: Vec<Carried>,
    }

    struct Carried {
        handle: CarrierHandle,
        _carrying: AbortOnDropHandle<()>,
        _laptop: AbortOnDropHandle<()>,
    }

    impl Held {
        async fn with(kinds: &[Kind]) -> Self {
            let mut held = Self {
                hold: Hold::new(SessionId::generate(), Arc::default()),
                carriers: Vec::new(),
            };
            for kind in kinds {
                held.gets(*kind).await;
            }
            held
        }

        async fn gets(&mut self, kind: Kind) {
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

        async fn opens(&self) -> Option<Taken> {
            let service = "shop/cart".parse().expect("valid");
            self.hold.open(&service, Port::new(80).expect("a port"), false).await
        }

        fn streams(&self) -> Vec<usize> {
            self.carriers.iter().map(|carried| carried.handle.streams()).collect()
        }
    }

    async fn accept_each(mut acceptor: Acceptor) {
        let mut streams = Vec::new();
        while let Some(incoming) = acceptor.next().await {
            let Incoming::Open(offered) = incoming else { continue };
            streams.push(offered.accept());
        }
    }

    async fn becomes_bulk(taken: &mut Taken) {
        taken.stream.write_all(&[7; 300 << 10]).await.expect("there is window for it");
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

    #[tokio::test]
    async fn a_stream_takes_another_lane_when_the_best_one_is_lost() {
        let held = Held::with(&[Kind::First, Kind::Further]).await;
        let _on_the_first = held.opens().await.expect("opened");
        assert_eq!(held.streams(), [1, 0]);
        // Closed, and its end not noticed yet: the task that carries it has had no turn.
        held.carriers[1].handle.close();
        let _on_the_first_too = held.opens().await.expect("opened all the same");
        assert_eq!(held.streams(), [2, 0]);
        assert_eq!(held.hold.seen().sight, Sight::Live);
    }

    #[tokio::test]
    async fn bulk_on_every_carrier_makes_the_replica_want_another_until_there_are_four() {
        let mut held = Held::with(&[Kind::First]).await;
        let (wanted_tx, mut wanted_rx) = mpsc::channel(8);
        let hold = held.hold.clone();
        let _growing = AbortOnDropHandle::new(tokio::spawn(async move {
            hold.grow(&wanted_tx).await;
        }));
        let mut bulk = Vec::new();
        for carriers in 1..=CARRIERS_MAX {
            let mut taken = held.opens().await.expect("opened");
            assert_eq!(held.streams().last(), Some(&1), "bulk keeps away from bulk");
            becomes_bulk(&mut taken).await;
            bulk.push(taken);
            assert_eq!(held.hold.may_grow(), carriers < CARRIERS_MAX);
            if carriers < CARRIERS_MAX {
                assert_eq!(wanted_rx.recv().await, Some(held.hold.session));
                held.gets(Kind::Further).await;
            }
        }
        tokio::task::yield_now().await;
        assert!(wanted_rx.try_recv().is_err(), "there are four");
    }

    #[tokio::test(start_paused = true)]
    async fn a_further_carrier_goes_when_it_is_quiet_and_its_last_stream_has_ended() {
        let mut held = Held::with(&[Kind::First, Kind::Further]).await;
        let first = held.opens().await.expect("opened");
        let further = held.opens().await.expect("opened");
        assert_eq!(held.streams(), [1, 1]);
        tokio::time::sleep(FURTHER_QUIET * 2).await;
        assert!(!held.carriers[1].handle.is_closed(), "a stream is open on it");
        let _on_the_first = held.opens().await.expect("opened");
        assert_eq!(held.streams(), [2, 1], "it takes no more");
        drop(further);
        held.carriers[1].handle.closed().await;
        assert!(!first.cut.is_cancelled());
        held.carriers.remove(1);
        assert_eq!(held.hold.seen().sight, Sight::Live);
    }
}
