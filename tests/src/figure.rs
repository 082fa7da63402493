//! What a bench found: figures with their spread, and the gates that some of them must hold.

use serde::{Deserialize, Serialize};

/// What a figure must hold.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gate {
    AtMost(f64),
    AtLeast(f64),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    pub name: String,
    /// Whose figure it is, where several are measured side by side.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<String>,
    pub value: f64,
    pub unit: String,
    /// How often it was measured; 0 says that it never could be.
    pub n: usize,
    /// Minimum, median and maximum of the sample.
    pub spread: [f64; 3],
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<Gate>,
    /// What would be better still, and need not be reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stretch: Option<f64>,
    pub holds: bool,
}

impl Figure {
    /// Returns the 95th percentile of a sample (nearest rank), which may not be larger than the gate.
    #[must_use]
    pub fn p95(name: &str, unit: &str, gate: f64, sample: Vec<f64>) -> Self {
        Self::at(0.95, name, unit, sample).holding(Gate::AtMost(gate))
    }

    /// Returns the 99th percentile of a sample (nearest rank), which may not be larger than the gate.
    #[must_use]
    pub fn p99(name: &str, unit: &str, gate: f64, sample: Vec<f64>) -> Self {
        Self::at(0.99, name, unit, sample).holding(Gate::AtMost(gate))
    }

    /// Returns the largest value of a sample, which may not be larger than the gate.
    #[must_use]
    pub fn worst(name: &str, unit: &str, gate: f64, sample: Vec<f64>) -> Self {
        Self::at(1.0, name, unit, sample).holding(Gate::AtMost(gate))
    }

    /// Returns the median of a sample, without a gate.
    #[must_use]
    pub fn median(name: &str, unit: &str, sample: Vec<f64>) -> Self {
        Self::at(0.5, name, unit, sample)
    }

    /// Says whose figure it is.
    #[must_use]
    pub fn of(self, whose: &str) -> Self {
        Self { of: Some(whose.to_owned()), ..self }
    }

    /// Gives it a gate. What was never measured holds none.
    #[must_use]
    pub fn holding(self, gate: Gate) -> Self {
        let within = match gate {
            Gate::AtMost(most) => self.value <= most,
            Gate::AtLeast(least) => self.value >= least,
        };
        Self { gate: Some(gate), holds: within && self.n > 0, ..self }
    }

    #[must_use]
    pub fn stretching_to(self, stretch: f64) -> Self {
        Self { stretch: Some(stretch), ..self }
    }

    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "samples are small"
    )]
    fn at(share: f64, name: &str, unit: &str, mut sample: Vec<f64>) -> Self {
        sample.sort_by(f64::total_cmp);
        let n = sample.len();
        let rank = ((n as f64 * share).ceil() as usize).max(1);
        let nth = |nth: usize| sample.get(nth).copied().unwrap_or_default();
        let spread = [nth(0), nth(n / 2), nth(n.saturating_sub(1))];
        Self {
            name: name.to_owned(),
            of: None,
            value: nth(rank - 1),
            unit: unit.to_owned(),
            n,
            spread,
            gate: None,
            stretch: None,
            holds: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_95th_percentile_of_twenty_is_the_nineteenth() {
        let sample = (1..=20).rev().map(f64::from).collect();
        let figure = Figure::p95("f", "ms", 19.0, sample);
        assert_eq!((figure.value, figure.holds), (19.0, true));
        assert_eq!(figure.spread, [1.0, 11.0, 20.0]);
        assert_eq!(Figure::median("f", "ms", vec![9.0, 1.0, 5.0]).value, 5.0);
    }

    #[test]
    fn the_99th_percentile_of_two_hundred_is_the_last_but_two() {
        let sample = (1..=200).rev().map(f64::from).collect();
        assert_eq!(Figure::p99("f", "ms", 1.0, sample).value, 198.0);
    }

    #[test]
    fn a_figure_on_the_wrong_side_of_its_gate_does_not_hold() {
        assert!(!Figure::worst("f", "ms", 2.0, vec![1.0, 2.5]).holds);
        let ratio = |value| Figure::median("f", "x", vec![value]).holding(Gate::AtLeast(0.5));
        assert!(ratio(0.5).holds && !ratio(0.4).holds);
    }

    #[test]
    fn what_was_never_measured_holds_no_gate() {
        assert!(!Figure::median("f", "ms", Vec::new()).holding(Gate::AtMost(1.0)).holds);
        assert!(
            Figure::median("f", "ms", Vec::new()).holds,
            "without a gate there is nothing to hold"
        );
    }
}
