//! Our path in a network that lets the laptop through to the hub's own port only: the laptop's half of each carrier comes
//! in a WebSocket, and the hub copies what it splices otherwise.
//!
//! Each round measures both ways, each with a daemon that begins anew: one that has found the raw port closed does not
//! try it again for a while.

use anyhow::ensure;
use fairlead_tests::{Figure, Gate::AtLeast, Line};

use super::{
    loads::Loads,
    path::{OURS, Path},
    round::{self, BULKS, Bulk, attempt},
    samples::Samples,
};
use crate::stage::tell;

const WSS: &str = "wss";

pub(crate) fn bench(line: &Line, loads: &Loads<'_>, rounds: u32) -> anyhow::Result<Vec<Figure>> {
    let mut samples = Samples::default();
    for number in 1..=rounds {
        tell(&format!("WebSockets, round {number} of {rounds}"));
        samples.begin_round();
        line.begins_anew()?;
        measure(&Path::ours(line)?, loads, &mut samples);
        line.closes_the_raw_port()?;
        line.begins_anew()?;
        let status = line.ada().fairlead(&["status"])?.ok()?.stdout;
        ensure!(status.contains("wss"), "the carrier found another way:\n{status}");
        measure(&Path::ours(line)?.named(WSS), loads, &mut samples);
        line.opens_the_raw_port()?;
    }
    line.begins_anew()?;
    Ok(figures(&samples))
}

fn one_stream() -> impl Iterator<Item = &'static Bulk> {
    BULKS.iter().filter(|bulk| bulk.streams == 1)
}

fn measure(path: &Path, loads: &Loads<'_>, samples: &mut Samples) {
    for bulk in one_stream() {
        attempt(path, samples, bulk.rate, |samples| round::move_bytes(path, *loads, bulk, samples));
    }
}

fn figures(samples: &Samples) -> Vec<Figure> {
    let figures = one_stream().flat_map(|bulk| {
        let row = bulk.rate;
        let ratio = samples.ratio((WSS, row), (OURS, row));
        let name = format!("{}, {WSS} / raw port", row.name);
        [
            Figure::median(row.name, row.unit, samples.of(WSS, row)).of(WSS),
            Figure::median(&name, "x", ratio).holding(AtLeast(0.6)),
        ]
    });
    figures.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_that_was_never_measured_holds_no_gate() {
        let figures = figures(&Samples::default());
        let gated: Vec<_> = figures.iter().filter(|figure| figure.gate.is_some()).collect();
        assert!(gated.len() == 2 && gated.iter().all(|figure| !figure.holds), "{gated:?}");
    }
}
