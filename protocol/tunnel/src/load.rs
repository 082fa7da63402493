//! What a carrier carries at this moment: how many streams, and how many of them are bulk.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use tokio::sync::{Notify, watch};

/// A stream that has moved more than this in one direction is bulk: whoever shares its carrier waits behind what it has
/// in flight. Ordinary requests and answers stay below it.
pub const BULK_BYTES: u64 = 256 << 10;

/// The lesser of two loads is the better place for a new stream: bulk counts first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Load {
    pub bulk: usize,
    pub streams: usize,
}

/// The load of one carrier. Who waits for more or less bulk is not woken by small streams, which may come by the thousand.
#[derive(Debug, Default)]
pub(crate) struct Counter {
    load: watch::Sender<Load>,
    emptied: Notify,
    /// How often streams have written, or were opened.
    writes: AtomicU64,
}

impl Counter {
    pub(crate) fn now(&self) -> Load {
        *self.load.borrow()
    }

    /// Returns what tells when a stream has become bulk, or one that was has ended.
    pub(crate) fn bulk_changes(&self) -> watch::Receiver<Load> {
        self.load.subscribe()
    }

    /// Says whether there are others for whom what one stream writes might wait.
    pub(crate) fn has_several(&self) -> bool {
        self.now().streams > 1
    }

    /// Returns how often streams have written so far.
    pub(crate) fn writes(&self) -> u64 {
        self.writes.load(Ordering::Relaxed)
    }

    pub(crate) fn note_write(&self) {
        self.writes.fetch_add(1, Ordering::Relaxed);
    }

    /// Waits until no stream is open.
    pub(crate) async fn empty(&self) {
        loop {
            let mut emptied = pin!(self.emptied.notified());
            // From here on: the last stream may end between the look and the wait.
            emptied.as_mut().enable();
            if self.now().streams == 0 {
                return;
            }
            emptied.await;
        }
    }
}

/// One open stream, as long as it lives.
#[derive(Debug)]
pub(crate) struct StreamCount {
    carrier: Arc<Counter>,
    sent: AtomicU64,
    received: AtomicU64,
    is_bulk: AtomicBool,
}

impl StreamCount {
    pub(crate) fn begin(carrier: &Arc<Counter>) -> Self {
        carrier.load.send_if_modified(|load| {
            load.streams += 1;
            false
        });
        carrier.note_write();
        Self {
            carrier: Arc::clone(carrier),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            is_bulk: AtomicBool::new(false),
        }
    }

    pub(crate) fn sent(&self, bytes: usize) {
        self.carrier.note_write();
        self.moved(&self.sent, bytes);
    }

    pub(crate) fn received(&self, bytes: usize) {
        self.moved(&self.received, bytes);
    }

    fn moved(&self, so_far: &AtomicU64, bytes: usize) {
        let bytes = bytes as u64;
        let all = so_far.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if all > BULK_BYTES && !self.is_bulk.swap(true, Ordering::Relaxed) {
            self.carrier.load.send_modify(|load| load.bulk += 1);
        }
    }
}

impl Drop for StreamCount {
    fn drop(&mut self) {
        let was_bulk = *self.is_bulk.get_mut();
        let mut is_last = false;
        self.carrier.load.send_if_modified(|load| {
            load.streams -= 1;
            load.bulk -= usize::from(was_bulk);
            is_last = load.streams == 0;
            was_bulk
        });
        if is_last {
            self.carrier.emptied.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_bulk_after_256_kb_in_one_direction_until_it_ends() {
        let load = Arc::new(Counter::default());
        let now = || load.now();
        let (small, large) = (StreamCount::begin(&load), StreamCount::begin(&load));
        let all = usize::try_from(BULK_BYTES).expect("fits");
        small.sent(all);
        small.received(all);
        large.received(all);
        assert_eq!(now(), Load { bulk: 0, streams: 2 });
        large.received(1);
        large.sent(all + 1);
        assert_eq!(now(), Load { bulk: 1, streams: 2 }, "once, however much it moves");
        drop(large);
        assert_eq!(now(), Load { bulk: 0, streams: 1 });
        drop(small);
        assert_eq!(now(), Load::default());
    }

    #[tokio::test]
    async fn small_streams_wake_only_who_waits_for_the_last_one() {
        let load = Arc::new(Counter::default());
        let bulk = load.bulk_changes();
        let (one, other) = (StreamCount::begin(&load), StreamCount::begin(&load));
        let mut empty = pin!(load.empty());
        drop(one);
        assert!(poll_immediate(empty.as_mut()).await.is_none(), "one is open");
        drop(other);
        empty.await;
        load.empty().await;
        assert!(!bulk.has_changed().expect("it is there"));
        let large = StreamCount::begin(&load);
        large.sent(usize::try_from(BULK_BYTES).expect("fits") + 1);
        assert!(bulk.has_changed().expect("it is there"));
    }

    async fn poll_immediate<F: Future>(mut future: std::pin::Pin<&mut F>) -> Option<F::Output> {
        std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
            std::task::Poll::Ready(output) => std::task::Poll::Ready(Some(output)),
            std::task::Poll::Pending => std::task::Poll::Ready(None),
        })
        .await
    }
}
