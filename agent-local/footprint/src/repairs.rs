//! How often what another program took away is put back: more often is a fight, which nobody wins.

use std::time::{Duration, Instant};

const PER_WINDOW: usize = 3;
const WINDOW: Duration = Duration::from_secs(60);

/// The repairs of the last minute.
#[derive(Debug, Default)]
pub struct Repairs(Vec<Instant>);

impl Repairs {
    /// Says whether one more is right at this moment, and counts it.
    pub fn may_begin(&mut self, now: Instant) -> bool {
        self.0.retain(|at| now.duration_since(*at) < WINDOW);
        let may = self.0.len() < PER_WINDOW;
        if may {
            self.0.push(now);
        }
        may
    }

    /// Returns how long until one more is right.
    #[must_use]
    pub fn pause(&self, now: Instant) -> Duration {
        let oldest = if self.0.len() < PER_WINDOW { None } else { self.0.first() };
        oldest.map_or(Duration::ZERO, |at| WINDOW.saturating_sub(now.duration_since(*at)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_a_minute_and_then_a_pause() {
        let (mut repairs, begun) = (Repairs::default(), Instant::now());
        let at = |seconds| begun + Duration::from_secs(seconds);
        assert!([0, 10, 20].into_iter().all(|seconds| repairs.may_begin(at(seconds))));
        assert!(!repairs.may_begin(at(30)));
        assert_eq!(repairs.pause(at(30)), Duration::from_secs(30));
        assert!(repairs.may_begin(at(60)), "the first one is a minute ago");
        assert!(!repairs.may_begin(at(61)));
        assert_eq!(Repairs::default().pause(begun), Duration::ZERO);
    }
}
