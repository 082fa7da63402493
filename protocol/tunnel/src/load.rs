//! What a carrier carries at this moment: how many streams, and how many of them are bulk.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::watch;

/// A stream that has moved more than this in one direction is bulk: whoever shares its carrier waits behind what it has
/// in flight. Ordinary requests and answers stay below it.
pub const BULK_BYTES: u64 = 256 << 10;

/// The lesser of two loads is the better place for a new stream: bulk counts first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Load {
    pub bulk: usize,
    pub streams: usize,
}

/// One open stream, as long as it lives.
#[derive(Debug)]
pub(crate) struct StreamCount {
    load: watch::Sender<Load>,
    sent: AtomicU64,
    received: AtomicU64,
    is_bulk: AtomicBool,
}

impl StreamCount {
    pub(crate) fn begin(load: &watch::Sender<Load>) -> Self {
        load.send_if_modified(|load| {
            load.streams += 1;
            // Nobody waits for more streams, and connections may come by the thousand.
            false
        });
        Self {
            load: load.clone(),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            is_bulk: AtomicBool::new(false),
        }
    }

    pub(crate) fn sent(&self, bytes: usize) {
        self.moved(&self.sent, bytes);
    }

    pub(crate) fn received(&self, bytes: usize) {
        self.moved(&self.received, bytes);
    }

    fn moved(&self, so_far: &AtomicU64, bytes: usize) {
        let bytes = bytes as u64;
        let all = so_far.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if all > BULK_BYTES && !self.is_bulk.swap(true, Ordering::Relaxed) {
            self.load.send_modify(|load| load.bulk += 1);
        }
    }
}

impl Drop for StreamCount {
    fn drop(&mut self) {
        let was_bulk = *self.is_bulk.get_mut();
        self.load.send_if_modified(|load| {
            load.streams -= 1;
            load.bulk -= usize::from(was_bulk);
            was_bulk || load.streams == 0
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_bulk_after_256_kb_in_one_direction_until_it_ends() {
        let load = watch::Sender::new(Load::default());
        let now = || *load.borrow();
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
}
