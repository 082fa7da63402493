//! What is measured on one path in one round.
//!
//! A load that fails is told and leaves its row without this round's value; the others go on.

use super::{
    loads::{Loads, Time, Way},
    path::{PLAIN, Path},
    samples::{Row, Samples},
};
use crate::stage::tell;

/// Who does the same at the same time.
const PARALLEL: usize = 32;
const KEEPING: usize = 16;

const BULK: Time = Time { warm_ms: 300, for_ms: 1200 };
/// Long enough for the slowest one of a hundred to be no chance.
const ASK: Time = Time { warm_ms: 100, for_ms: 2000 };
/// Longer than the asking beside it.
const BESIDE: Time = Time { warm_ms: 0, for_ms: 3000 };
const ASK_BESIDE: Time = Time { warm_ms: 500, for_ms: 2000 };
const CONNECT: Time = Time { warm_ms: 50, for_ms: 500 };
const MANY: Time = Time { warm_ms: 100, for_ms: 1000 };

pub(crate) const fn row(name: &'static str, unit: &'static str) -> Row {
    Row { name, unit }
}

/// Bytes in one direction.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bulk {
    pub(crate) way: Way,
    pub(crate) streams: usize,
    pub(crate) rate: Row,
    /// Of many streams: whether they are equally fast.
    pub(crate) fairness: Option<Row>,
}

pub(crate) const BULKS: [Bulk; 6] = [
    Bulk { way: Way::Up, streams: 1, rate: row("upload, 1 stream", "MB/s"), fairness: None },
    Bulk { way: Way::Down, streams: 1, rate: row("download, 1 stream", "MB/s"), fairness: None },
    Bulk {
        way: Way::Up,
        streams: 16,
        rate: row("upload, 16 streams", "MB/s"),
        fairness: Some(row("fairness (Jain), upload, 16 streams", "")),
    },
    Bulk {
        way: Way::Down,
        streams: 16,
        rate: row("download, 16 streams", "MB/s"),
        fairness: Some(row("fairness (Jain), download, 16 streams", "")),
    },
    Bulk {
        way: Way::Up,
        streams: 128,
        rate: row("upload, 128 streams", "MB/s"),
        fairness: Some(row("fairness (Jain), upload, 128 streams", "")),
    },
    Bulk {
        way: Way::Down,
        streams: 128,
        rate: row("download, 128 streams", "MB/s"),
        fairness: Some(row("fairness (Jain), download, 128 streams", "")),
    },
];

/// Processor time of one stream in one direction: the whole path, and each process that a path of ours has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    pub(crate) whole: Row,
    /// The middle one of ours; of others the mean of their hops.
    pub(crate) hop: Row,
    pub(crate) laptop: Row,
    pub(crate) cluster: Row,
}

pub(crate) const fn cost(way: Way) -> Cost {
    match way {
        Way::Up => Cost {
            whole: row("processor time, upload: all processes", "s/GB"),
            hop: row("processor time, upload: hub, or one hop", "s/GB"),
            laptop: row("processor time, upload: laptop daemon", "s/GB"),
            cluster: row("processor time, upload: cluster agent", "s/GB"),
        },
        Way::Down => Cost {
            whole: row("processor time, download: all processes", "s/GB"),
            hop: row("processor time, download: hub, or one hop", "s/GB"),
            laptop: row("processor time, download: laptop daemon", "s/GB"),
            cluster: row("processor time, download: cluster agent", "s/GB"),
        },
    }
}

pub(crate) const IDLE_P50: Row = row("1 KB asked and answered, p50", "us");
pub(crate) const IDLE_P99: Row = row("1 KB asked and answered, p99", "us");
pub(crate) const BESIDE_P50: Row = row("the same beside one download, p50", "us");
pub(crate) const BESIDE_P99: Row = row("the same beside one download, p99", "us");
pub(crate) const NEW_P50: Row = row("new connection, p50", "us");
pub(crate) const NEW_RATE: Row = row("new connections, 32 at a time", "/s");
pub(crate) const HTTP_CLOSE: Row = row("HTTP, a connection each, 32 at a time", "/s");
pub(crate) const HTTP_KEEP: Row = row("HTTP, 16 connections kept", "/s");

/// Measures everything on one path: what is small first, while a tunnel is as it is most of the time, and then bulk, for
/// which it grows.
pub(crate) fn measure(path: &Path, loads: &Loads<'_>, samples: &mut Samples) {
    small(path, loads, samples);
    for bulk in &BULKS {
        attempt(path, samples, bulk.rate, |samples| move_bytes(path, *loads, bulk, samples));
    }
    beside(path, loads, samples);
}

/// Measures requests and new connections, one at a time and many.
pub(crate) fn small(path: &Path, loads: &Loads<'_>, samples: &mut Samples) {
    alone(path, loads, samples);
    attempt(path, samples, NEW_RATE, |samples| {
        let connected = loads.connect(path.to, PARALLEL, MANY)?;
        samples.note(path.name, NEW_RATE, connected.per_s);
        Ok(())
    });
    for (row, threads, close) in [(HTTP_CLOSE, PARALLEL, true), (HTTP_KEEP, KEEPING, false)] {
        attempt(path, samples, row, |samples| {
            let answered = loads.http(path.to, threads, close, MANY)?;
            samples.note(path.name, row, answered.per_s);
            Ok(())
        });
    }
}

/// Measures what one stream moves in each direction.
pub(crate) fn one_stream(path: &Path, loads: &Loads<'_>, samples: &mut Samples) {
    for bulk in BULKS.iter().filter(|bulk| bulk.streams == 1) {
        attempt(path, samples, bulk.rate, |samples| move_bytes(path, *loads, bulk, samples));
    }
}

/// Measures how soon one request is answered, and one on a new connection.
pub(crate) fn alone(path: &Path, loads: &Loads<'_>, samples: &mut Samples) {
    attempt(path, samples, IDLE_P50, |samples| {
        let asked = loads.ask(path.to, ASK)?;
        samples.note(path.name, IDLE_P50, asked.p50_us);
        samples.note(path.name, IDLE_P99, asked.p99_us);
        Ok(())
    });
    attempt(path, samples, NEW_P50, |samples| {
        samples.note(path.name, NEW_P50, loads.connect(path.to, 1, CONNECT)?.p50_us);
        Ok(())
    });
}

/// Measures how soon it is answered beside a download.
pub(crate) fn beside(path: &Path, loads: &Loads<'_>, samples: &mut Samples) {
    attempt(path, samples, BESIDE_P50, |samples| {
        // Ends when it is dropped.
        let _download = loads.begin_bulk(path.to, Way::Down, 1, BESIDE)?;
        let asked = loads.ask(path.to, ASK_BESIDE)?;
        samples.note(path.name, BESIDE_P50, asked.p50_us);
        samples.note(path.name, BESIDE_P99, asked.p99_us);
        Ok(())
    });
}

pub(crate) fn move_bytes(
    path: &Path,
    loads: Loads<'_>,
    bulk: &Bulk,
    samples: &mut Samples,
) -> anyhow::Result<()> {
    let before = path.spent()?;
    let moved = loads.bulk(path.to, bulk.way, bulk.streams, BULK)?;
    let spent = path.spent()?.since(&before);
    samples.note(path.name, bulk.rate, moved.bytes_per_s / 1e6);
    if let Some(row) = bulk.fairness {
        samples.note(path.name, row, moved.fairness);
        return Ok(());
    }
    let (cost, gb) = (cost(bulk.way), moved.bytes / 1e9);
    anyhow::ensure!(gb > 0.0, "no byte came");
    samples.note(path.name, cost.whole, (spent.iter().sum::<f64>() + moved.cpu_s) / gb);
    match spent[1..] {
        [] => {}
        [laptop, hub, cluster] if path.name != PLAIN => {
            samples.note(path.name, cost.laptop, laptop / gb);
            samples.note(path.name, cost.hop, hub / gb);
            samples.note(path.name, cost.cluster, cluster / gb);
        }
        [first, second] => samples.note(path.name, cost.hop, (first + second) / 2.0 / gb),
        [..] => {}
    }
    Ok(())
}

pub(crate) fn attempt(
    path: &Path,
    samples: &mut Samples,
    row: Row,
    measure: impl FnOnce(&mut Samples) -> anyhow::Result<()>,
) {
    if let Err(error) = measure(samples) {
        tell(&format!("{}, {}: {error:#}", path.name, row.name));
    }
}
