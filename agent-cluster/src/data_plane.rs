//! Threads on which the bytes of consumes are moved, apart from everything else that the agent does.
//!
//! A carrier stays on one thread with the connections that it carries: where several threads share them, as those of a
//! runtime for everything do, each wakes the others for work that is done by the time they look. Those of one session are
//! on different threads as far as possible: a request beside a download then has one to which the system gives the
//! processor at once. Of an intercept the connections come from listeners, for which carriers are chosen later: they stay
//! where everything is.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::available_parallelism,
    time::{Duration, Instant},
};

use fairlead_model::SessionId;
use fairlead_tunnel::pool::CARRIERS_MAX;
use tokio::runtime::{Builder, Handle, Runtime};

/// More than this and the network is full.
const THREADS_MAX: usize = 16;
/// Of one thread: names outside the cluster are looked up by calls that block.
const LOOKUPS_MAX: usize = 32;
/// What is still carried had its time before.
const END_PATIENCE: Duration = Duration::from_millis(200);

/// The threads themselves. To be dropped outside of any runtime.
#[derive(Debug)]
pub(crate) struct DataPlane {
    runtimes: Vec<Runtime>,
    threads: DataThreads,
}

/// The way to them.
#[derive(Clone, Debug)]
pub(crate) struct DataThreads {
    runtimes: Arc<[Handle]>,
    seats: Seats,
}

/// The sessions of the carriers on each thread.
#[derive(Clone, Debug)]
struct Seats(Arc<Mutex<Vec<Vec<SessionId>>>>);

impl DataPlane {
    /// Begins as many threads as there are processors for this process, and at least one for each carrier of a tunnel.
    pub(crate) fn begin() -> io::Result<Self> {
        let processors = available_parallelism().map_or(CARRIERS_MAX, Into::into);
        Self::of_threads(processors.clamp(CARRIERS_MAX, THREADS_MAX))
    }

    fn of_threads(count: usize) -> io::Result<Self> {
        let begin = |_| {
            Builder::new_multi_thread()
                .worker_threads(1)
                .max_blocking_threads(LOOKUPS_MAX)
                .thread_name("data")
                .enable_all()
                .build()
        };
        let runtimes = (0..count).map(begin).collect::<io::Result<Vec<_>>>()?;
        let handles = runtimes.iter().map(|runtime| runtime.handle().clone()).collect();
        let threads = DataThreads { runtimes: handles, seats: Seats::on(count) };
        Ok(Self { runtimes, threads })
    }

    pub(crate) fn threads(&self) -> DataThreads {
        self.threads.clone()
    }
}

impl Drop for DataPlane {
    /// Ends what is still carried: its applications see an abort, and not an end. Nobody is waited for who blocks.
    fn drop(&mut self) {
        let until = Instant::now() + END_PATIENCE;
        for runtime in self.runtimes.drain(..) {
            runtime.shutdown_timeout(until.saturating_duration_since(Instant::now()));
        }
    }
}

impl DataThreads {
    /// Serves a carrier of a session on a thread. What it spawns stays there.
    pub(crate) fn spawn(
        &self,
        session: SessionId,
        served: impl Future<Output = ()> + Send + 'static,
    ) {
        let seat = self.seats.take(session);
        self.runtimes[seat.thread].spawn(async move {
            served.await;
            drop(seat);
        });
    }
}

impl Seats {
    fn on(threads: usize) -> Self {
        Self(Arc::new(Mutex::new(vec![Vec::new(); threads])))
    }

    /// Chooses the thread with the fewest carriers of this session, and among those the one with the fewest of all.
    fn take(&self, session: SessionId) -> Seat {
        let mut threads = self.lock();
        let weight = |thread: &Vec<SessionId>| {
            (thread.iter().filter(|other| **other == session).count(), thread.len())
        };
        let thread = (0..threads.len())
            .min_by_key(|thread| weight(&threads[*thread]))
            .expect("there is a thread");
        threads[thread].push(session);
        Seat { seats: self.clone(), thread, session }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Vec<SessionId>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A carrier's place on a thread, until it has ended.
#[derive(Debug)]
struct Seat {
    seats: Seats,
    thread: usize,
    session: SessionId,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut threads = self.seats.lock();
        let carriers = &mut threads[self.thread];
        if let Some(own) = carriers.iter().position(|session| *session == self.session) {
            carriers.swap_remove(own);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread};

    use super::*;

    /// Longer than anybody waits here whose thread is not blocked for good.
    const LONG: Duration = Duration::from_secs(30);

    #[test]
    fn a_carrier_has_a_thread_without_another_of_its_session_and_else_the_one_with_the_fewest() {
        let seats = Seats::on(3);
        let [ada, bob, eve] = [0; 3].map(|_| SessionId::generate());
        let mut taken = [bob, bob, bob, ada, eve, eve].map(|session| Some(seats.take(session)));
        let threads = taken.each_ref().map(|seat| seat.as_ref().map(|seat| seat.thread));
        assert_eq!(threads, [0, 1, 2, 0, 1, 2].map(Some), "the fewest of all");
        taken[0] = None;
        let second = seats.take(ada);
        assert_eq!(second.thread, 1, "there are fewer on 0, but one of her own");
        assert_eq!(seats.take(bob).thread, 0, "and he has none there any more");
    }

    #[test]
    fn what_a_carrier_spawns_stays_on_its_thread() {
        let plane = DataPlane::of_threads(2).expect("threads");
        let (on_tx, on_rx) = mpsc::channel();
        plane.threads().spawn(SessionId::generate(), async move {
            let here = || async { thread::current().id() };
            for _ in 0..20 {
                let spawned = tokio::spawn(here()).await.expect("no panic");
                on_tx.send((here().await, spawned)).expect("heard");
            }
        });
        for _ in 0..20 {
            let (carrier, spawned) = on_rx.recv_timeout(LONG).expect("it is served");
            assert_eq!(carrier, spawned);
        }
    }

    #[test]
    fn what_is_still_served_is_dropped_with_the_threads_and_who_blocks_is_not_waited_for() {
        let plane = DataPlane::of_threads(1).expect("threads");
        let (begun_tx, begun_rx) = mpsc::channel();
        let (dropped_tx, dropped_rx) = mpsc::channel::<()>();
        let (unblock_tx, unblock_rx) = mpsc::channel::<()>();
        plane.threads().spawn(SessionId::generate(), async move {
            let _dropped_with_this = dropped_tx;
            let _blocks = tokio::task::spawn_blocking(move || unblock_rx.recv_timeout(LONG));
            begun_tx.send(()).expect("heard");
            std::future::pending().await
        });
        begun_rx.recv_timeout(LONG).expect("it is served");
        let begun = Instant::now();
        drop(plane);
        assert!(begun.elapsed() < LONG / 2, "{:?}", begun.elapsed());
        let dropped = dropped_rx.recv_timeout(LONG);
        assert_eq!(dropped, Err(mpsc::RecvTimeoutError::Disconnected));
        drop(unblock_tx);
    }
}
