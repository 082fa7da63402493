//! What a carrier carries at this moment: how many streams, and how many of them are bulk.

use std::{
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

/// A stream that has moved more than this in one direction is bulk: whoever shares its carrier waits behind what it has
/// in flight. Ordinary requests and answers stay below it.
pub const BULK_BYTES: u64 = 256 << 10;

/// So long what bulk had in flight may still be there when it has ended: on a lossy network that is megabytes in the
/// buffers on the way, and little passes in a second.
const BULK_DRAINS: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    pub bulk: usize,
    pub streams: usize,
    /// Connections that have ended in one direction.
    pub half_closed: usize,
}

/// What is less where a new stream has its better place: bulk counts first, then what is left of bulk, then streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Weight {
    bulk: usize,
    drains: bool,
    streams: usize,
}

/// The load of one carrier. Who waits for more or less bulk is not woken by small streams, which may come by the thousand.
#[derive(Debug, Default)]
pub(crate) struct Counter {
    load: watch::Sender<Load>,
    emptied: Notify,
    bulk_ended: Mutex<Option<Instant>>,
    /// How often streams have written, or were opened.
    writes: AtomicU64,
}

impl Counter {
    pub(crate) fn now(&self) -> Load {
        *self.load.borrow()
    }

    /// Returns how good a place for a new stream this is. A single stream that has ended in one direction counts for
    /// nothing, as it is mostly about to end: of one connection after the other, the end of each then travels with the
    /// beginning of the next.
    pub(crate) fn weight(&self) -> Weight {
        let Load { bulk, streams, half_closed } = self.now();
        let ended = *self.bulk_ended.lock().unwrap_or_else(PoisonError::into_inner);
        let drains = ended.is_some_and(|ended| ended.elapsed() < BULK_DRAINS);
        Weight { bulk, drains, streams: streams - half_closed.min(1) }
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
    is_half_closed: AtomicBool,
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
            is_half_closed: AtomicBool::new(false),
        }
    }

    pub(crate) fn sent(&self, bytes: usize) {
        self.carrier.note_write();
        self.moved(&self.sent, bytes);
    }

    pub(crate) fn received(&self, bytes: usize) {
        self.moved(&self.received, bytes);
    }

    /// One direction has ended.
    pub(crate) fn half_closed(&self) {
        if !self.is_half_closed.swap(true, Ordering::Relaxed) {
            self.carrier.load.send_if_modified(|load| {
                load.half_closed += 1;
                false
            });
        }
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
        let was_half_closed = *self.is_half_closed.get_mut();
        let mut is_last = false;
        self.carrier.load.send_if_modified(|load| {
            load.streams -= 1;
            load.bulk -= usize::from(was_bulk);
            load.half_closed -= usize::from(was_half_closed);
            is_last = load.streams == 0;
            was_bulk
        });
        if was_bulk {
            let ended = Some(Instant::now());
            *self.carrier.bulk_ended.lock().unwrap_or_else(PoisonError::into_inner) = ended;
        }
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
        assert_eq!(now(), Load { bulk: 0, streams: 2, half_closed: 0 });
        large.received(1);
        large.sent(all + 1);
        assert_eq!(
            now(),
            Load { bulk: 1, streams: 2, half_closed: 0 },
            "once, however much it moves"
        );
        drop(large);
        assert_eq!(now(), Load { bulk: 0, streams: 1, half_closed: 0 });
        drop(small);
        assert_eq!(now(), Load::default());
    }

    #[test]
    fn one_stream_that_has_ended_in_one_direction_weighs_nothing_and_others_do() {
        let load = Arc::new(Counter::default());
        let streams = [0; 3].map(|_| StreamCount::begin(&load));
        streams[0].half_closed();
        streams[0].half_closed();
        assert_eq!(load.now(), Load { bulk: 0, streams: 3, half_closed: 1 }, "once");
        assert_eq!(load.weight().streams, 2);
        streams[1].half_closed();
        assert_eq!(load.weight().streams, 2, "those who read long answers are many");
        drop(streams);
        assert_eq!(load.now(), Load::default());
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
