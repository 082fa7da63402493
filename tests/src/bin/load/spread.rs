//! Percentiles of what was measured one by one.

use std::time::Duration;

use serde::Serialize;

#[derive(Debug, Serialize)]
pub(crate) struct Spread {
    pub(crate) n: usize,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
}

impl Spread {
    /// Returns the percentiles by nearest rank.
    pub(crate) fn of(mut took: Vec<Duration>) -> anyhow::Result<Self> {
        anyhow::ensure!(!took.is_empty(), "nothing was answered in time");
        took.sort();
        let at = |percent: usize| {
            let rank = (took.len() * percent).div_ceil(100).max(1);
            took[rank - 1].as_secs_f64() * 1e6
        };
        Ok(Self { n: took.len(), p50_us: at(50), p99_us: at(99) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_hundred_the_percentiles_are_the_hundredth_and_the_198th() {
        let spread = Spread::of((1..=200).rev().map(Duration::from_micros).collect());
        let spread = spread.expect("not empty");
        assert_eq!((spread.n, spread.p50_us, spread.p99_us), (200, 100.0, 198.0));
        assert!(Spread::of(Vec::new()).is_err());
    }
}
