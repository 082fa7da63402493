//! Resets that an application sees and cannot explain: the log says why, and seldom enough that an application that tries
//! again and again does not fill it.
//!
//! An end of a carrier tells here whatever it resets or refuses by itself, and what it passes on of the other end. An
//! application that resets its own connection knows why.

use std::{
    collections::HashMap,
    fmt,
    sync::{LazyLock, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use tracing::info;

/// Of resets for the same reason one is told in this time.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// Of the whole process, as its log is.
static RESETS: LazyLock<Resets> = LazyLock::new(Resets::default);

/// Tells the log that a connection to `whom` was reset, and why. One in ten seconds for each `reason`, which is one of a
/// few that stand in the code; `detail` is of this very connection.
pub fn tell(whom: &dyn fmt::Display, reason: &'static str, detail: &dyn fmt::Display) {
    match RESETS.are_to_be_told(reason, Instant::now()) {
        Some(0) => info!("A connection to {whom} was reset: {reason}: {detail}"),
        Some(untold) => {
            info!(untold, "A connection to {whom} was reset: {reason}: {detail}");
        }
        None => {}
    }
}

#[derive(Debug, Default)]
struct Resets(Mutex<HashMap<&'static str, Lately>>);

#[derive(Debug)]
struct Lately {
    told_at: Instant,
    untold: u64,
}

impl Resets {
    /// Takes note of a reset. Returns of how many before it nobody was told, if it is to be told.
    fn are_to_be_told(&self, reason: &'static str, now: Instant) -> Option<u64> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(lately) = all.get_mut(reason) else {
            all.insert(reason, Lately { told_at: now, untold: 0 });
            return Some(0);
        };
        if now < lately.told_at + TOLD_EVERY {
            lately.untold += 1;
            return None;
        }
        lately.told_at = now;
        Some(std::mem::take(&mut lately.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_resets_for_one_reason_a_few_are_told_and_the_others_are_counted() {
        let (resets, begin) = (Resets::default(), Instant::now());
        assert_eq!(resets.are_to_be_told("no carrier", begin), Some(0));
        for _ in 0..3 {
            assert_eq!(resets.are_to_be_told("no carrier", begin), None);
        }
        assert_eq!(resets.are_to_be_told("refused", begin), Some(0), "another reason");
        let later = begin + TOLD_EVERY;
        assert_eq!(resets.are_to_be_told("no carrier", later), Some(3));
        assert_eq!(resets.are_to_be_told("no carrier", later), None);
        assert_eq!(resets.are_to_be_told("no carrier", later + TOLD_EVERY), Some(1));
        assert_eq!(resets.are_to_be_told("refused", later), Some(0), "it was one");
    }
}
