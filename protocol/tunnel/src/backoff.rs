//! How long to wait before dialling again: full jitter under a ceiling that doubles, so that many peers of a hub that
//! comes back do not all knock at once. Where nobody is there at all, the ceiling stays low for as long as a restart
//! takes: knocking at a closed door costs nobody anything.

use std::time::Duration;

use fairlead_model::timers::{RECONNECT_FIRST, RECONNECT_MAX, RECONNECT_SOON};

/// As many waits as make a minute. Whoever is away for longer has not been restarted.
const RESTART_WAITS: u32 = 150;

/// The waits between attempts that keep failing.
#[derive(Clone, Debug, Default)]
pub struct Backoff {
    failed: u32,
    absent: u32,
}

impl Backoff {
    #[must_use]
    pub const fn new() -> Self {
        Self { failed: 0, absent: 0 }
    }

    /// Returns how long to wait before the next attempt: anything from nothing to the ceiling.
    pub fn next_delay(&mut self) -> Duration {
        let ceiling = ceiling_after(self.failed);
        self.failed = self.failed.saturating_add(1);
        ceiling.mul_f64(rand::random())
    }

    /// Returns the same after an attempt that found nobody there, as while the other side restarts.
    pub fn next_look(&mut self) -> Duration {
        if self.absent == RESTART_WAITS {
            return self.next_delay();
        }
        self.absent += 1;
        RECONNECT_SOON.mul_f64(rand::random())
    }

    /// Forgets the failures; for when an attempt held.
    pub const fn reset(&mut self) {
        *self = Self::new();
    }
}

fn ceiling_after(failed: u32) -> Duration {
    RECONNECT_FIRST.saturating_mul(2_u32.saturating_pow(failed)).min(RECONNECT_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ceiling_doubles_up_to_its_maximum() {
        assert_eq!(ceiling_after(0), RECONNECT_FIRST);
        assert_eq!(ceiling_after(1), RECONNECT_FIRST * 2);
        assert_eq!(ceiling_after(6), RECONNECT_MAX);
        assert_eq!(ceiling_after(u32::MAX), RECONNECT_MAX);
    }

    #[test]
    fn delays_stay_under_the_ceiling_and_differ() {
        let mut backoff = Backoff::new();
        let delays: Vec<Duration> = (0..20).map(|_| backoff.next_delay()).collect();
        for (failed, delay) in (0..).zip(&delays) {
            assert!(*delay <= ceiling_after(failed), "{delay:?} after {failed}");
        }
        assert!(delays.iter().skip(8).any(|delay| *delay != delays[7]), "no jitter: {delays:?}");
    }

    #[test]
    fn whoever_is_not_there_is_looked_for_closely_for_a_minute_and_then_less_and_less() {
        let mut backoff = Backoff::new();
        let minute: Vec<Duration> = (0..RESTART_WAITS).map(|_| backoff.next_look()).collect();
        assert!(minute.iter().all(|wait| *wait <= RECONNECT_SOON), "{minute:?}");
        let whole: Duration = minute.iter().sum();
        assert!((40..=80).contains(&whole.as_secs()), "{whole:?}");
        let later: Vec<Duration> = (0..100).map(|_| backoff.next_look()).collect();
        assert!(later.iter().any(|wait| *wait > RECONNECT_SOON * 4), "{later:?}");
        backoff.reset();
        assert!(backoff.next_look() <= RECONNECT_SOON);
    }
}
