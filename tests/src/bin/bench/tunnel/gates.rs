//! What the figures must hold, and what they would better hold: one line per gate.

use fairlead_tests::{
    Figure,
    Gate::{self, AtLeast, AtMost},
};

use super::{
    loads::Way,
    path::{HAPROXY, OURS, PLAIN, RAW},
    round::{
        BESIDE_P50, BESIDE_P99, BULKS, Bulk, HTTP_CLOSE, HTTP_KEEP, IDLE_P50, IDLE_P99, NEW_P50,
        NEW_RATE, cost,
    },
    samples::{Row, Samples},
};

/// Returns what was measured, side by side, and what had to be held.
pub(crate) fn figures(samples: &Samples) -> Vec<Figure> {
    let rows = rows();
    let whose = [RAW, HAPROXY, PLAIN, OURS];
    let measured = rows.iter().flat_map(|row| {
        let cells = whose.map(|whose| (whose, samples.of(whose, *row)));
        cells.map(|(whose, sample)| Figure::median(row.name, row.unit, sample).of(whose))
    });
    let bulks = BULKS.iter().flat_map(|bulk| bulk_gates(samples, bulk));
    let costs = [Way::Up, Way::Down].into_iter().flat_map(|way| cost_gates(samples, way));
    measured.chain(bulks).chain(costs).chain(time_gates(samples)).collect()
}

fn rows() -> Vec<Row> {
    let bulks = BULKS.iter().flat_map(|bulk| [Some(bulk.rate), bulk.fairness]).flatten();
    let costs = [Way::Up, Way::Down].map(cost);
    let costs = costs.iter().flat_map(|cost| [cost.whole, cost.laptop, cost.hop, cost.cluster]);
    let times = [IDLE_P50, IDLE_P99, BESIDE_P50, BESIDE_P99, NEW_P50, NEW_RATE];
    bulks.chain(costs).chain(times).chain([HTTP_CLOSE, HTTP_KEEP]).collect()
}

fn bulk_gates(samples: &Samples, bulk: &Bulk) -> Vec<Figure> {
    let against =
        |whose, gate, stretch| against(samples, whose, bulk.rate, gate).stretching_to(stretch);
    let fairness = |least, stretch| {
        let row = bulk.fairness.expect("many streams have one");
        let sample = samples.of(OURS, row);
        Figure::median(row.name, row.unit, sample).holding(AtLeast(least)).stretching_to(stretch)
    };
    let raw = samples.ratio((OURS, bulk.rate), (RAW, bulk.rate));
    match bulk.streams {
        // Against raw there is no gate: docs/decisions/0009-bulk-is-measured-against-plain-hops.md.
        1 => vec![
            Figure::median(&format!("{} / {RAW}", bulk.rate.name), "x", raw),
            against(PLAIN, AtLeast(0.60), 0.90),
            against(HAPROXY, AtLeast(0.50), 0.75),
        ],
        16 => vec![against(HAPROXY, AtLeast(0.50), 0.70), fairness(0.97, 0.99)],
        _ => vec![against(HAPROXY, AtLeast(0.45), 0.70), fairness(0.90, 0.99)],
    }
}

/// On two cores of 2026 these ratios are 1.9 s/GB (stretch 1.4) and 0.36 s/GB (0.22).
fn cost_gates(samples: &Samples, way: Way) -> [Figure; 2] {
    let cost = cost(way);
    [
        against(samples, HAPROXY, cost.whole, AtMost(2.0)).stretching_to(1.5),
        against(samples, HAPROXY, cost.hop, AtMost(1.3)).stretching_to(0.8),
    ]
}

/// Against as many plain hops: docs/decisions/0010-small-things-are-measured-against-plain-hops.md.
fn time_gates(samples: &Samples) -> Vec<Figure> {
    let against = |row, gate, stretch| against(samples, PLAIN, row, gate).stretching_to(stretch);
    let beside_two = [IDLE_P50, IDLE_P99, NEW_P50, NEW_RATE, HTTP_CLOSE, HTTP_KEEP].map(|row| {
        let ratio = samples.ratio((OURS, row), (HAPROXY, row));
        Figure::median(&format!("{} / {HAPROXY}", row.name), "x", ratio)
    });
    let beside = samples.ratio((OURS, BESIDE_P50), (OURS, IDLE_P50));
    let beside_ms = samples.of(OURS, BESIDE_P99).iter().map(|us| us / 1000.0).collect();
    let gates = [
        against(IDLE_P50, AtMost(1.3), 1.0),
        against(IDLE_P99, AtMost(1.3), 1.0),
        Figure::median("1 KB beside one download / alone, p50", "x", beside)
            .holding(AtMost(6.0))
            .stretching_to(3.0),
        Figure::median("1 KB beside one download, p99", "ms", beside_ms)
            .holding(AtMost(10.0))
            .stretching_to(4.0),
        against(NEW_P50, AtMost(1.25), 1.0),
        against(NEW_RATE, AtLeast(1.0), 1.2),
        against(HTTP_CLOSE, AtLeast(1.0), 1.2),
        against(HTTP_KEEP, AtLeast(0.75), 1.0),
    ];
    beside_two.into_iter().chain(gates).collect()
}

/// Returns a row of ours as a multiple of somebody else's, round by round.
pub(crate) fn against(samples: &Samples, whose: &'static str, row: Row, gate: Gate) -> Figure {
    let ratio = samples.ratio((OURS, row), (whose, row));
    Figure::median(&format!("{} / {whose}", row.name), "x", ratio).holding(gate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_gate_fails_when_nothing_was_measured() {
        let figures = figures(&Samples::default());
        let gated: Vec<_> = figures.iter().filter(|figure| figure.gate.is_some()).collect();
        assert_eq!(gated.len(), 24);
        assert!(gated.iter().all(|figure| !figure.holds));
    }
}
