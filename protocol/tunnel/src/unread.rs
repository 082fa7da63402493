//! A cap on what this process holds for applications that do not read.
//!
//! Every stream may fill its window, and a window cannot be taken back once it was given. Where many readers stop at
//! once, those that hold the most are aborted until the rest fits: better a few visible failures than a process that
//! dies with all of its streams.

use std::{
    io,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

/// Fits an agent replica; a laptop asks for less.
const CAP_DEFAULT_BYTES: usize = 256 << 20;
/// How often a stream whose reader has stopped says what it holds: a fast tunnel fills a laptop's whole cap in this time.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(50);

static UNREAD: Unread = Unread::new(CAP_DEFAULT_BYTES);

/// Sets the cap of this process; for `main`.
pub fn cap_at(bytes: usize) {
    UNREAD.cap.store(bytes, Ordering::Relaxed);
}

/// Returns how many bytes this process holds for applications that do not read.
#[must_use]
pub fn held() -> usize {
    UNREAD.held.load(Ordering::Relaxed)
}

/// What all stalled streams of a process hold together.
#[derive(Debug)]
struct Unread {
    cap: AtomicUsize,
    held: AtomicUsize,
    holders: AtomicUsize,
}

impl Unread {
    const fn new(cap: usize) -> Self {
        Self { cap: AtomicUsize::new(cap), held: AtomicUsize::new(0), holders: AtomicUsize::new(0) }
    }
}

/// The account of one stream whose reader has stopped, for as long as it has.
#[derive(Debug)]
pub(crate) struct Stalled {
    unread: &'static Unread,
    held: usize,
}

impl Stalled {
    pub(crate) fn begin() -> Self {
        Self::of(&UNREAD)
    }

    fn of(unread: &'static Unread) -> Self {
        unread.holders.fetch_add(1, Ordering::Relaxed);
        Self { unread, held: 0 }
    }

    /// Says how many bytes the stream holds now; an error means that it has to go.
    pub(crate) fn holds(&mut self, bytes: usize) -> io::Result<()> {
        self.unread.held.fetch_add(bytes, Ordering::Relaxed);
        let all = self.unread.held.fetch_sub(self.held, Ordering::Relaxed) - self.held;
        self.held = bytes;
        let holders = self.unread.holders.load(Ordering::Relaxed);
        // Whoever holds the most holds at least the average, so somebody always goes.
        if all > self.unread.cap.load(Ordering::Relaxed) && bytes.saturating_mul(holders) >= all {
            let why = "the application does not read, and too much waits for it";
            return Err(io::Error::new(io::ErrorKind::QuotaExceeded, why));
        }
        Ok(())
    }
}

impl Drop for Stalled {
    fn drop(&mut self) {
        self.unread.held.fetch_sub(self.held, Ordering::Relaxed);
        self.unread.holders.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unread(cap: usize) -> &'static Unread {
        Box::leak(Box::new(Unread::new(cap)))
    }

    #[test]
    fn under_the_cap_everybody_stays() {
        let unread = unread(100);
        let (mut a, mut b) = (Stalled::of(unread), Stalled::of(unread));
        assert!(a.holds(60).is_ok() && b.holds(40).is_ok() && a.holds(60).is_ok());
    }

    #[test]
    fn over_the_cap_who_holds_most_goes_and_the_rest_stays() {
        let unread = unread(100);
        let (mut large, mut small) = (Stalled::of(unread), Stalled::of(unread));
        assert!(large.holds(90).is_ok());
        assert!(small.holds(20).is_ok(), "it holds less than the average");
        assert!(large.holds(90).is_err());
        drop(large);
        assert!(small.holds(30).is_ok());
    }

    #[test]
    fn what_is_over_is_counted_no_more() {
        let unread = unread(100);
        drop({
            let mut stalled = Stalled::of(unread);
            assert!(stalled.holds(50).is_ok());
            stalled
        });
        assert_eq!(unread.held.load(Ordering::Relaxed), 0);
        assert_eq!(unread.holders.load(Ordering::Relaxed), 0);
    }
}
