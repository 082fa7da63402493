//! What was measured, by round, by whose path it was, and by name.

use std::collections::BTreeMap;

/// One thing that is measured on every path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
}

#[derive(Debug, Default)]
pub(crate) struct Samples {
    rounds: Vec<BTreeMap<(&'static str, Row), f64>>,
}

impl Samples {
    pub(crate) fn begin_round(&mut self) {
        self.rounds.push(BTreeMap::new());
    }

    /// Keeps a value of the round at hand.
    pub(crate) fn note(&mut self, whose: &'static str, row: Row, value: f64) {
        if let Some(round) = self.rounds.last_mut() {
            round.insert((whose, row), value);
        }
    }

    pub(crate) fn of(&self, whose: &'static str, row: Row) -> Vec<f64> {
        self.rounds.iter().filter_map(|round| round.get(&(whose, row)).copied()).collect()
    }

    /// Returns how one value of a round relates to another of the same round; rounds that lack one of them are left out.
    pub(crate) fn ratio(
        &self,
        (whose, row): (&'static str, Row),
        (others, other_row): (&'static str, Row),
    ) -> Vec<f64> {
        let of_round = |round: &BTreeMap<_, f64>| {
            let other = round.get(&(others, other_row)).filter(|other| **other > 0.0)?;
            Some(round.get(&(whose, row))? / other)
        };
        self.rounds.iter().filter_map(of_round).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_one_of_the_same_round() {
        let row = Row { name: "upload", unit: "MB/s" };
        let mut samples = Samples::default();
        for (ours, raw) in [(1.0, Some(2.0)), (30.0, Some(10.0)), (7.0, None)] {
            samples.begin_round();
            samples.note("ours", row, ours);
            if let Some(raw) = raw {
                samples.note("raw", row, raw);
            }
        }
        assert_eq!(samples.ratio(("ours", row), ("raw", row)), [0.5, 3.0]);
        assert_eq!(samples.of("ours", row), [1.0, 30.0, 7.0]);
    }
}
