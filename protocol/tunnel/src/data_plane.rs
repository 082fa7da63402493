//! Where bytes are moved: threads of their own, apart from everything else a process does.
//!
//! A carrier stays on one thread, with the connections that it carries. Threads that share them, as those of a runtime
//! for everything do, wake each other for every connection, to find that the work is done or is just being done under a
//! lock that both want: on two cores that was a tenth of all new connections. And what takes its time elsewhere, such as
//! a catalogue of thousands of services that is read and named, keeps no byte waiting.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::available_parallelism,
    time::Duration,
};

use tokio::runtime::{Builder, Handle, Runtime};

/// The threads. Whoever has them ends them outside of any runtime.
#[derive(Debug)]
pub struct DataPlane {
    runtimes: Vec<Runtime>,
    threads: DataThreads,
}

/// Gives the threads out, one after the other.
#[derive(Clone, Debug)]
pub struct DataThreads {
    handles: Arc<[Handle]>,
    given: Arc<AtomicUsize>,
}

impl DataPlane {
    /// Begins one thread: the bytes of a laptop do not fill it.
    pub fn of_one_thread() -> io::Result<Self> {
        Self::begin(1)
    }

    /// Begins a thread for every second processor that this process may use: the others are for those who are served.
    pub fn of_half_the_machine() -> io::Result<Self> {
        Self::begin(available_parallelism().map_or(1, |all| all.get().div_ceil(2)))
    }

    fn begin(threads: usize) -> io::Result<Self> {
        let begin = || {
            Builder::new_multi_thread().worker_threads(1).thread_name("data").enable_all().build()
        };
        let runtimes = (0..threads).map(|_| begin()).collect::<io::Result<Vec<_>>>()?;
        let threads = DataThreads::of(runtimes.iter().map(|runtime| runtime.handle().clone()));
        Ok(Self { runtimes, threads })
    }

    #[must_use]
    pub fn threads(&self) -> DataThreads {
        self.threads.clone()
    }

    /// Ends what still moves bytes: its applications see an abort, and not an end.
    pub fn end(self, patience: Duration) {
        self.runtimes.into_iter().for_each(|runtime| runtime.shutdown_timeout(patience));
    }
}

impl DataThreads {
    fn of(handles: impl Iterator<Item = Handle>) -> Self {
        Self { handles: handles.collect(), given: Arc::default() }
    }

    /// Returns the caller's own, for whoever has no need of others.
    ///
    /// # Panics
    ///
    /// Outside of a runtime.
    #[must_use]
    pub fn here() -> Self {
        Self::of(std::iter::once(Handle::current()))
    }

    /// Returns the one whose turn it is.
    #[must_use]
    pub fn next(&self) -> &Handle {
        let given = self.given.fetch_add(1, Ordering::Relaxed);
        &self.handles[given % self.handles.len()]
    }
}

#[cfg(test)]
mod tests {
    use std::thread::{self, ThreadId};

    use super::*;

    #[test]
    fn each_thread_has_its_turn_and_what_is_begun_there_stays_there() {
        let plane = DataPlane::begin(2).expect("threads");
        let threads = plane.threads();
        let where_it_runs = || {
            let begun = threads.next().spawn(async {
                let first = thread::current().id();
                let later = tokio::spawn(async { thread::current().id() }).await.expect("no panic");
                (first, later)
            });
            let waiting = Builder::new_current_thread().build().expect("runtime");
            let (first, later): (ThreadId, ThreadId) = waiting.block_on(begun).expect("no panic");
            assert_eq!(first, later);
            first
        };
        let [one, two, three] = [where_it_runs(), where_it_runs(), where_it_runs()];
        assert!(one != two && one == three);
        plane.end(Duration::ZERO);
    }
}
