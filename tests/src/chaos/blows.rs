//! Blows: who is struck, when in a round, and for how long. Whom there is to strike and how is each storm's own.

use std::{fmt, ops::RangeInclusive, time::Duration};

use super::Dice;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blow<V, H> {
    pub at: Duration,
    pub victim: V,
    pub how: H,
    pub lasts: Duration,
}

/// What the blows of a round are drawn from.
#[derive(Debug, Clone)]
pub struct Storm<'f, V, H> {
    /// Whom what befalls how often.
    pub faults: &'f [((V, H), u64)],
    /// No blow falls later than this.
    pub length_ms: u64,
    pub each_lasts_ms: RangeInclusive<u64>,
}

impl<V: Copy, H: Copy> Storm<'_, V, H> {
    /// Draws one blow, two or three, in the order in which they fall; one may last when the next one falls.
    pub fn blows(&self, dice: &mut Dice) -> Vec<Blow<V, H>> {
        let mut blows: Vec<_> = (0..dice.between(1, 3)).map(|_| self.blow(dice)).collect();
        blows.sort_by_key(|blow| blow.at);
        blows
    }

    fn blow(&self, dice: &mut Dice) -> Blow<V, H> {
        let at = Duration::from_millis(dice.between(0, self.length_ms));
        let (victim, how) = dice.among(self.faults);
        let (least, most) = (*self.each_lasts_ms.start(), *self.each_lasts_ms.end());
        Blow { at, victim, how, lasts: Duration::from_millis(dice.between(least, most)) }
    }
}

impl<V: fmt::Debug, H: fmt::Debug> fmt::Display for Blow<V, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, victim, how, lasts } = self;
        write!(f, "{victim:?} {how:?} at {} ms for {} ms", at.as_millis(), lasts.as_millis())
    }
}

/// Says all of them, as a plan does.
pub fn blows_told<V: fmt::Debug, H: fmt::Debug>(blows: &[Blow<V, H>]) -> String {
    format!("[{}]", blows.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn whatever_can_go_wrong_does_within_its_bounds() {
        let faults = [(("hub", "killed"), 3), (("daemon", "held"), 1)];
        let storm = Storm { faults: &faults, length_ms: 500, each_lasts_ms: 50..=100 };
        let mut met = BTreeSet::new();
        for round in 1..=100 {
            let blows = storm.blows(&mut Dice::of(7, round));
            assert!((1..=3).contains(&blows.len()) && blows.is_sorted_by_key(|blow| blow.at));
            for blow in blows {
                assert!(blow.at.as_millis() <= 500 && (50..=100).contains(&blow.lasts.as_millis()));
                met.insert((blow.victim, blow.how));
            }
        }
        assert_eq!(met.len(), faults.len());
    }

    #[test]
    fn blows_are_told_one_after_the_other() {
        let at = Duration::from_millis(5);
        let blow = Blow { at, victim: "hub", how: 'k', lasts: at * 2 };
        let once = "\"hub\" 'k' at 5 ms for 10 ms";
        assert_eq!(blows_told(&[blow, blow]), format!("[{once}; {once}]"));
    }
}
