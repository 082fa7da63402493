//! What a long cable does to a frame, decided without any: it waits its turn, takes its time, or is lost.

use std::time::{Duration, Instant};

/// What a cable does, in each direction.
#[derive(Debug, Clone, Copy)]
pub struct Cable {
    pub bytes_per_s: f64,
    pub delay: Duration,
    /// What waits for longer is dropped: the router's buffer is full.
    pub queue: Duration,
}

#[derive(Debug)]
pub(super) struct Shaper {
    cable: Cable,
    /// When the last frame that was let in will have left.
    free_at: Instant,
    dice: u64,
}

impl Shaper {
    pub(super) fn new(cable: Cable, now: Instant, seed: u64) -> Self {
        Self { cable, free_at: now, dice: seed | 1 }
    }

    /// Returns when a frame that comes now arrives at the other end; `None` when it never does.
    pub(super) fn arrival(
        &mut self,
        now: Instant,
        bytes: usize,
        lost_per_mille: u64,
    ) -> Option<Instant> {
        if self.throw() < lost_per_mille {
            return None;
        }
        let begins = self.free_at.max(now);
        if begins - now > self.cable.queue {
            return None;
        }
        let bytes = u32::try_from(bytes).map_or(f64::MAX, f64::from);
        self.free_at = begins + Duration::from_secs_f64(bytes / self.cable.bytes_per_s);
        Some(self.free_at + self.cable.delay)
    }

    /// Returns a number below 1000: xorshift, the same row of them in every run.
    fn throw(&mut self) -> u64 {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        self.dice % 1000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CABLE: Cable = Cable {
        bytes_per_s: 1e6,
        delay: Duration::from_millis(25),
        queue: Duration::from_millis(10),
    };

    #[test]
    fn frames_leave_one_after_the_other_and_all_take_the_same_time() {
        let now = Instant::now();
        let mut shaper = Shaper::new(CABLE, now, 1);
        let first = shaper.arrival(now, 1000, 0).expect("arrives");
        let second = shaper.arrival(now, 1000, 0).expect("arrives");
        assert_eq!(first - now, Duration::from_millis(26));
        assert_eq!(second - first, Duration::from_millis(1));
    }

    #[test]
    fn what_finds_the_queue_full_is_lost_and_later_ones_are_not() {
        let now = Instant::now();
        let mut shaper = Shaper::new(CABLE, now, 1);
        let taken = (0..100).filter(|_| shaper.arrival(now, 1000, 0).is_some()).count();
        assert_eq!(taken, 11);
        assert!(shaper.arrival(now + Duration::from_millis(5), 1000, 0).is_some());
    }

    #[test]
    fn one_in_a_hundred_is_lost() {
        let now = Instant::now();
        let mut shaper = Shaper::new(Cable { queue: Duration::from_secs(3600), ..CABLE }, now, 7);
        let lost = (0..100_000).filter(|_| shaper.arrival(now, 1, 10).is_none()).count();
        assert!((800..1200).contains(&lost), "{lost}");
    }
}
