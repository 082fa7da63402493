//! How much a connection has moved, and noticing that it moves no more.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use fairlead_model::timers::HALF_CLOSED_LINGER;
use tokio::time::{Instant, sleep_until};

/// Bytes moved so far.
#[derive(Debug, Default)]
pub(crate) struct Moved {
    pub(crate) up: AtomicU64,
    pub(crate) down: AtomicU64,
}

impl Moved {
    /// Returns the bytes from the TCP connection into the stream.
    pub(crate) fn up(&self) -> u64 {
        self.up.load(Ordering::Relaxed)
    }

    /// Returns the bytes from the stream to the TCP connection.
    pub(crate) fn down(&self) -> u64 {
        self.down.load(Ordering::Relaxed)
    }

    fn both(&self) -> u64 {
        self.up().wrapping_add(self.down())
    }
}

/// Notices that nothing has moved for a while.
pub(crate) struct Linger<'m> {
    moved: &'m Moved,
    seen: u64,
    since: Instant,
}

impl<'m> Linger<'m> {
    const PATIENCE: Duration = HALF_CLOSED_LINGER;

    pub(crate) fn new(moved: &'m Moved) -> Self {
        Self { moved, seen: moved.both(), since: Instant::now() }
    }

    pub(crate) fn begin_again(&mut self) {
        *self = Self::new(self.moved);
    }

    pub(crate) async fn passed(&mut self) {
        loop {
            Box::pin(sleep_until(self.since + Self::PATIENCE)).await;
            if self.seen == self.moved.both() {
                return;
            }
            self.begin_again();
        }
    }
}
