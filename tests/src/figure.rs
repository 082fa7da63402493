//! What a bench found: one figure with its spread and the gate it must hold.

use std::io::Write;

use serde::Serialize;

#[derive(Debug, Clone, Serialize)]
pub struct Figure {
    pub name: &'static str,
    pub value: f64,
    pub unit: &'static str,
    pub n: usize,
    /// Minimum, median and maximum of the sample.
    pub spread: [f64; 3],
    /// The value may not be larger.
    pub gate: f64,
    pub holds: bool,
}

impl Figure {
    /// Returns the 95th percentile of a sample (nearest rank) as a figure.
    ///
    /// # Panics
    /// Panics when the sample is empty: a bench that measured nothing has no figure.
    #[must_use]
    pub fn p95(name: &'static str, unit: &'static str, gate: f64, sample: Vec<f64>) -> Self {
        Self::at(0.95, name, unit, gate, sample)
    }

    /// Returns the largest value of a sample as a figure.
    #[must_use]
    pub fn worst(name: &'static str, unit: &'static str, gate: f64, sample: Vec<f64>) -> Self {
        Self::at(1.0, name, unit, gate, sample)
    }

    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "samples are small"
    )]
    fn at(
        share: f64,
        name: &'static str,
        unit: &'static str,
        gate: f64,
        mut sample: Vec<f64>,
    ) -> Self {
        sample.sort_by(f64::total_cmp);
        let n = sample.len();
        let rank = ((n as f64 * share).ceil() as usize).max(1);
        let value = sample[rank - 1];
        let spread = [sample[0], sample[n / 2], sample[n - 1]];
        Self { name, value, unit, n, spread, gate, holds: value <= gate }
    }
}

/// Prints figures as a table, or as one object per line.
pub fn print(figures: &[Figure], as_json: bool, out: &mut impl Write) -> anyhow::Result<()> {
    if as_json {
        for figure in figures {
            writeln!(out, "{}", serde_json::to_string(figure)?)?;
        }
        return Ok(());
    }
    let wide = figures.iter().map(|figure| figure.name.chars().count()).max().unwrap_or_default();
    writeln!(
        out,
        "{:<wide$} {:>9} {:>4} {:>27} {:>9}  HOLDS",
        "FIGURE", "VALUE", "N", "MIN / MEDIAN / MAX", "GATE"
    )?;
    for Figure { name, value, unit, n, spread: [min, median, max], gate, holds } in figures {
        let spread = format!("{min:.0} / {median:.0} / {max:.0}");
        let holds = if *holds { "yes" } else { "NO" };
        writeln!(
            out,
            "{name:<wide$} {:>9} {n:>4} {spread:>27} {:>9}  {holds}",
            format!("{value:.0} {unit}"),
            format!("{gate:.0} {unit}"),
        )?;
    }
    Ok(())
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
    }

    #[test]
    fn every_line_of_the_table_is_as_wide_as_the_first() {
        let named = |name| Figure::worst(name, "ms", 2.0, vec![1.0]);
        let long = "a name that is longer than most others and than it should be";
        let mut table = Vec::new();
        print(&[named("short"), named(long)], false, &mut table).expect("written");
        let table = String::from_utf8(table).expect("text");
        let columns: Vec<_> =
            table.lines().map(|line| line.find("ms").or(line.find("VALUE"))).collect();
        assert_eq!(columns[1], columns[2], "{table}");
    }

    #[test]
    fn a_figure_above_its_gate_does_not_hold() {
        assert!(!Figure::worst("f", "ms", 2.0, vec![1.0, 2.5]).holds);
    }
}
