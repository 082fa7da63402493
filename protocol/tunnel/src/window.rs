//! How much of one stream may be on its way to here: about what the network carries, so that what else is on the carrier
//! does not wait behind buffers full of a download.
//!
//! Twice the bandwidth-delay product is enough. The bandwidth is what was seen to arrive in each of two halves of a window:
//! what waited for a lost packet is there all at once, and the first second of a sender may bring more than ever after. It
//! shows only as far as the window let it, so the window grows step by step until more of it brings no more. The delay is
//! the shortest round trip on this carrier, and some slack: others may fill a queue on the way, and who then has little on
//! its way gets little. Where they fill more than that round trip and twice the slack, a window stays as it is. Growing
//! only, and for all streams of a carrier: a window that was given cannot be taken back from one of them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

/// The first window: what a stream may bring before anything is known of the network. Streams that bring more are bulk.
pub(crate) const WINDOW_MIN_BYTES: u32 = 256 << 10;
/// Enough for 200 Mbit/s at 50 ms, which is 1.25 MB, and for what programs and kernels keep on the way.
pub(crate) const WINDOW_MAX_BYTES: u32 = 4 << 20;
/// For queues of others: so much longer a round trip may take. What shares the carrier waits for the window that comes of
/// it.
const SLACK: Duration = Duration::from_millis(100);
/// What arrives within less says more of the system's scheduler than of the network.
const SEEN_FOR_MIN: Duration = Duration::from_millis(10);
/// When nothing has arrived for so long there was nothing to send: what comes then is measured anew. A lost packet is sent
/// again sooner.
const PAUSE: Duration = Duration::from_secs(1);

/// The window of one carrier's streams, for whoever sets it and whoever measures.
#[derive(Debug)]
pub(crate) struct Window {
    wanted: AtomicU32,
    /// In µs; the largest number while it is not known.
    round_trip_us: AtomicU64,
}

impl Window {
    pub(crate) fn new() -> Arc<Self> {
        let wanted = AtomicU32::new(WINDOW_MIN_BYTES);
        Arc::new(Self { wanted, round_trip_us: AtomicU64::new(u64::MAX) })
    }

    /// Returns how large it should be, in bytes.
    pub(crate) fn wanted(&self) -> u32 {
        self.wanted.load(Ordering::Relaxed)
    }

    /// Notes how long an answer took.
    pub(crate) fn note_round_trip(&self, took: Duration) {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.round_trip_us.fetch_min(took, Ordering::Relaxed);
    }

    pub(crate) fn knows_the_round_trip(&self) -> bool {
        self.round_trip().is_some()
    }

    fn round_trip(&self) -> Option<Duration> {
        let us = self.round_trip_us.load(Ordering::Relaxed);
        (us != u64::MAX).then(|| Duration::from_micros(us))
    }
}

/// Measures what arrives.
#[derive(Debug)]
pub(crate) struct Meter {
    window: Arc<Window>,
    bytes: usize,
    since: Duration,
    last: Duration,
    /// What the half of a window before this one brought, in bytes per second.
    before: f64,
}

impl Meter {
    pub(crate) const fn new(window: Arc<Window>) -> Self {
        Self { window, bytes: 0, since: Duration::ZERO, last: Duration::ZERO, before: 0.0 }
    }

    /// Notes that so many bytes have arrived, `now` since the carrier began.
    pub(crate) fn arrived(&mut self, bytes: usize, now: Duration) {
        let pause = now.saturating_sub(self.last);
        self.last = now;
        if pause > PAUSE {
            // What follows these is measured.
            (self.bytes, self.since) = (0, now);
            return;
        }
        self.bytes += bytes;
        let window = self.window.wanted();
        let seen_for = now.saturating_sub(self.since);
        if self.bytes < window as usize / 2 || seen_for < SEEN_FOR_MIN {
            return;
        }
        let rate = self.bytes as f64 / seen_for.as_secs_f64();
        if let Some(round_trip) = self.window.round_trip().filter(|_| window < WINDOW_MAX_BYTES) {
            let delay = round_trip + SLACK;
            let carried = rate.min(self.before) * delay.as_secs_f64();
            let wanted = (2.0 * carried).min(f64::from(WINDOW_MAX_BYTES)) as u32;
            if wanted > window {
                let wanted = wanted.next_power_of_two().min(WINDOW_MAX_BYTES);
                self.window.wanted.store(wanted, Ordering::Relaxed);
            }
        }
        (self.bytes, self.since, self.before) = (0, now, rate);
    }
}

/// Sets the window of a carrier's streams when another one is wanted.
#[derive(Debug)]
pub(crate) struct Setter {
    window: Arc<Window>,
    set: u32,
}

impl Setter {
    pub(crate) const fn new(window: Arc<Window>) -> Self {
        Self { window, set: WINDOW_MIN_BYTES }
    }

    /// Asks `set`, which fails while the other end has not heard of the last one, if there is a reason to.
    pub(crate) fn look(&mut self, set: impl FnOnce(u32) -> Result<(), h2::Error>) {
        let wanted = self.window.wanted();
        if wanted != self.set && set(wanted).is_ok() {
            self.set = wanted;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Has bytes arrive for some seconds over a network of this bandwidth and delay, and returns the window then.
    fn after_seconds(bytes_per_s: f64, round_trip: Duration) -> u32 {
        after_seconds_behind(bytes_per_s, round_trip, Duration::ZERO)
    }

    /// The same where others have filled a queue since the round trip was measured.
    fn after_seconds_behind(bytes_per_s: f64, round_trip: Duration, queue: Duration) -> u32 {
        let window = Window::new();
        window.note_round_trip(round_trip);
        let round_trip = round_trip + queue;
        let mut meter = Meter::new(Arc::clone(&window));
        for ms in 1..=4000 {
            // No more than a window is on its way.
            let most = f64::from(window.wanted()) / round_trip.as_secs_f64();
            meter.arrived((bytes_per_s.min(most) / 1000.0) as usize, MS * ms);
        }
        window.wanted()
    }

    #[test]
    fn it_grows_until_the_network_carries_no_more() {
        assert_eq!(after_seconds(25e6, 50 * MS), 4 << 20);
        assert_eq!(after_seconds(2e6, 50 * MS), 1 << 20, "twice 300 KB with slack, rounded up");
        assert_eq!(after_seconds(500e6, MS / 5), 4 << 20);
    }

    #[test]
    fn a_queue_of_others_does_not_keep_it_small() {
        assert_eq!(after_seconds_behind(20e6, 20 * MS, 180 * MS), 4 << 20);
        assert_eq!(after_seconds_behind(20e6, 20 * MS, 300 * MS), WINDOW_MIN_BYTES, "too long");
    }

    #[test]
    fn where_little_arrives_little_is_on_its_way() {
        assert_eq!(after_seconds(350e3, 50 * MS), WINDOW_MIN_BYTES);
        assert_eq!(after_seconds(350e3, 500 * MS), 512 << 10);
    }

    #[test]
    fn one_burst_says_nothing() {
        let window = Window::new();
        window.note_round_trip(50 * MS);
        let mut meter = Meter::new(Arc::clone(&window));
        // Twice in a second a hole is filled, and what waited behind it is there.
        for hole in 1..=9 {
            meter.arrived(130 << 10, hole * 500 * MS);
            meter.arrived(250 << 10, (hole * 500 + 11) * MS);
        }
        assert_eq!(window.wanted(), WINDOW_MIN_BYTES);
    }

    #[test]
    fn what_comes_and_goes_is_measured_while_it_comes() {
        let window = Window::new();
        window.note_round_trip(100 * MS);
        let mut meter = Meter::new(Arc::clone(&window));
        for begun in [3, 6, 9] {
            for ms in 1..=80 {
                meter.arrived(5 << 10, begun * 1000 * MS + ms * MS);
            }
        }
        assert_eq!(window.wanted(), 2 << 20, "twice what 5 MB/s are in 200 ms, rounded up");
    }

    #[test]
    fn little_at_a_time_counts_as_fast_as_it_comes() {
        let window = Window::new();
        window.note_round_trip(100 * MS);
        let mut meter = Meter::new(Arc::clone(&window));
        // Half a window and less than another one each time.
        for begun in [3, 6, 9] {
            for ms in 1..=40 {
                meter.arrived(5 << 10, begun * 1000 * MS + ms * MS);
            }
        }
        assert_eq!(window.wanted(), 2 << 20);
    }

    #[test]
    fn nothing_is_known_without_a_round_trip_and_the_shortest_one_counts() {
        let window = Window::new();
        let mut meter = Meter::new(Arc::clone(&window));
        meter.arrived(10 << 20, 20 * MS);
        meter.arrived(10 << 20, 40 * MS);
        assert_eq!(window.wanted(), WINDOW_MIN_BYTES);
        window.note_round_trip(MS);
        window.note_round_trip(900 * MS);
        meter.arrived(300 << 10, 640 * MS);
        meter.arrived(300 << 10, 1240 * MS);
        assert_eq!(window.wanted(), WINDOW_MIN_BYTES, "0.5 MB/s, 101 ms");
    }

    #[test]
    fn what_could_not_be_set_is_set_later_and_once() {
        let window = Window::new();
        let mut setter = Setter::new(Arc::clone(&window));
        setter.look(|_| unreachable!("it is as it was"));
        window.wanted.store(1 << 20, Ordering::Relaxed);
        setter.look(|_| Err(h2::Reason::INTERNAL_ERROR.into()));
        let mut sizes = Vec::new();
        for _ in 0..2 {
            setter.look(|size| {
                sizes.push(size);
                Ok(())
            });
        }
        assert_eq!(sizes, [1 << 20]);
    }
}
