//! Whether the laptop of an intercept is there: the beat over its carrier, *away*, and the grace after which it is
//! lost. Requests ask here for a way to the laptop; when there is none they go to the pods.
//!
//! Each replica has its own carrier and sees for itself. Replicas tell each other what they see (`peers.rs`), and
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
    carrier::Driver,
    opener::{OpenFailed, Opener},
    stream::Stream,
};
use fairlead_wire::open::OpenRequest;
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{Notify, watch},
    task::AbortHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

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
    lane: watch::Sender<Option<Lane>>,
    /// Cuts everything; `ended` comes first and only lets nothing new begin.
    over: CancellationToken,
    ended: AtomicBool,
    /// Rung at every change of `seen`.
    news: Arc<Notify>,
}

/// The way to the laptop that is in use.
#[derive(Clone)]
struct Lane {
    opener: Opener,
    /// Ends the carrier itself.
    ends: CancellationToken,
    /// Cuts the streams under way; renewed when the laptop goes away, because it may come back on the same carrier.
    cut: CancellationToken,
}

impl std::fmt::Debug for Lane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Lane")
    }
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
            lane: watch::Sender::new(None),
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

    /// Takes a new carrier into use; it replaces the one before. Ends with the carrier, and dropped it ends the carrier:
    /// a laptop whose beat nobody asks for is not seen.
    pub(crate) async fn carry(&self, opener: Opener, driver: Driver) {
        let ends = self.inner.over.child_token();
        let lane = Lane { opener: opener.clone(), cut: ends.child_token(), ends: ends.clone() };
        if let Some(before) = self.inner.lane.send_replace(Some(lane)) {
            before.ends.cancel();
        }
        self.sees(Sight::Live);
        let driver = tokio::spawn(driver).abort_handle();
        let carried = Carried { hold: self, opener, driver, ends };
        tokio::select! {
            () = self.beat(&carried.opener) => {}
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
                Ok(_) => self.sees(Sight::Live),
                Err(silence) => {
                    debug!(session = %self.session, ?silence, "The laptop does not answer");
                    self.goes_away();
                }
            }
        }
    }

    /// Forgets the lane that has ended, unless a newer one has taken its place.
    fn drop_lane(&self) {
        let was_current = self.inner.lane.send_if_modified(|lane| {
            let ended = lane.as_ref().is_some_and(|lane| lane.ends.is_cancelled());
            if ended {
                *lane = None;
            }
            ended
        });
        if was_current {
            self.sees(Sight::Away);
        }
    }

    /// Everything under way is cut, so that clients notice at once; what comes next goes to the pods.
    fn goes_away(&self) {
        self.sees(Sight::Away);
        self.inner.lane.send_if_modified(|lane| {
            if let Some(lane) = lane {
                lane.cut.cancel();
                lane.cut = lane.ends.child_token();
            }
            false
        });
    }

    fn sees(&self, sight: Sight) {
        let changed = self.see(|seen| {
            let changed = seen.sight != sight;
            if changed {
                *seen = HoldSeen { sight, ..HoldSeen::waiting() };
            }
            changed
        });
        if changed {
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
        let lane = self.inner.lane.borrow().clone()?;
        if self.inner.seen.borrow().sight != Sight::Live || self.inner.ended.load(Ordering::Relaxed)
        {
            return None;
        }
        let request = OpenRequest { session: self.session, service: service.clone(), port, probe };
        match timeout(timers::INTERCEPT_CONNECT, lane.opener.open(&request)).await {
            Ok(Ok(stream)) => {
                self.passed(port);
                Some(Taken { stream, cut: lane.cut.child_token() })
            }
            Ok(Err(OpenFailed::Refused(refused))) => {
                self.refused(port, refused.to_string());
                None
            }
            Ok(Err(failed)) => {
                debug!(session = %self.session, %failed, "A connection could not be opened at the laptop");
                self.sees(Sight::Away);
                None
            }
            Err(_) => {
                debug!(session = %self.session, "The laptop's port does not answer in time");
                self.sees(Sight::Away);
                None
            }
        }
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
        self.hold.drop_lane();
    }
}

#[cfg(test)]
mod tests {
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
        let carrying = tokio::spawn(async move { held.carry(opener, opening).await });
        until(|| hold.seen().sight == Sight::Live).await;
        carrying.abort();
        until(|| hold.seen().sight == Sight::Away).await;
        assert!(hold.inner.lane.borrow().is_none());
        accepting.await.expect("its end is seen at the laptop");
    }
}
