//! The same path over a long cable: 50 ms there and back, 200 Mbit/s, without loss and with 1 % of it.
//!
//! The laptop is alone at one end; hub, agent and service are at the other. *raw* is the application's own connection
//! over the same cable, with the congestion control that the kernel does best with: BBR where it has it, for both. Many
//! machines have none, or forbid it: what a small request waits for is measured once more with one that takes loss for
//! congestion, for both.

use std::{thread::sleep, time::Duration};

use anyhow::{Context as _, ensure};
use fairlead_lab::{Host, Lab};
use fairlead_tests::{
    Cable, Figure,
    Gate::{AtLeast, AtMost},
    Line, Wan, say,
};

use super::{
    gates::against,
    loads::{Asked, Loads, Time, Way, found},
    path::{OURS, Path, RAW},
    round::{attempt, row},
    samples::{Row, Samples},
};
use crate::stage::tell;

const NAME: &str = "bench-far";
const CABLE: Cable =
    Cable { bytes_per_s: 25e6, delay: Duration::from_millis(25), queue: Duration::from_millis(50) };
const LOST_PER_MILLE: u64 = 10;
const RTT_MS: f64 = 50.0;

/// Where packets are lost, BBR's first seconds are a queue that runs over: what waits for a hole to be filled is handed on
/// later, and a measurement that begins then finds more than the cable carries.
const BULK: Time = Time { warm_ms: 4000, for_ms: 4000 };
/// How long is asked beside a download, which is there before and after. A packet in fifty is lost of those that a
/// request and its answer take together: of 60 requests it would be chance whether one of a hundred had to wait.
const ASKED_MS: u64 = 3_500;
const ASKED_LOSSY_MS: u64 = 15_000;
const ASK_WARM_MS: u64 = 1_500;
const AROUND_ASKING_MS: u64 = 2_000;
/// A download comes to the carrier of a connection that asks: what else is there waits for as much as may be on its way.
const JOINED: Time = Time { warm_ms: 4_000, for_ms: 6_000 };
const JOINED_AFTER_MS: u64 = 1_000;
const CONNECT: Time = Time { warm_ms: 0, for_ms: 1500 };

/// What is measured over one kind of cable, and how much of raw must be left.
struct Rows {
    lost_per_mille: u64,
    bulks: &'static [(Way, usize, Row, f64)],
    asked_ms: u64,
    beside_p50: Row,
    beside_p99: Row,
    /// And how many round trips it may be; none where it is not asked.
    joined: Option<(Row, f64)>,
    new: Row,
}

const CLEAN: Rows = Rows {
    lost_per_mille: 0,
    bulks: &[
        (Way::Down, 1, row("50 ms: download, 1 stream", "MB/s"), 0.95),
        (Way::Up, 1, row("50 ms: upload, 1 stream", "MB/s"), 0.95),
        (Way::Down, 8, row("50 ms: download, 8 streams", "MB/s"), 0.95),
    ],
    asked_ms: ASKED_MS,
    beside_p50: row("50 ms: 1 KB beside one download, p50", "ms"),
    beside_p99: row("50 ms: 1 KB beside one download, p99", "ms"),
    joined: Some((row("50 ms: 1 KB on a connection that a download joins, p50", "ms"), 4.0)),
    new: row("50 ms: new connection, p50", "ms"),
};

const LOSSY: Rows = Rows {
    lost_per_mille: LOST_PER_MILLE,
    bulks: &[
        (Way::Down, 1, row("50 ms, 1 % loss: download, 1 stream", "MB/s"), 0.85),
        (Way::Up, 1, row("50 ms, 1 % loss: upload, 1 stream", "MB/s"), 0.85),
        (Way::Down, 8, row("50 ms, 1 % loss: download, 8 streams", "MB/s"), 0.90),
    ],
    asked_ms: ASKED_LOSSY_MS,
    beside_p50: row("50 ms, 1 % loss: 1 KB beside one download, p50", "ms"),
    beside_p99: row("50 ms, 1 % loss: 1 KB beside one download, p99", "ms"),
    joined: None,
    new: row("50 ms, 1 % loss: new connection, p50", "ms"),
};

/// There is hardly any bulk then, with us or without.
const LOSS_BASED: Rows = Rows {
    lost_per_mille: LOST_PER_MILLE,
    bulks: &[],
    asked_ms: ASKED_LOSSY_MS,
    beside_p50: row("50 ms, 1 % loss, Reno: 1 KB beside one download, p50", "ms"),
    beside_p99: row("50 ms, 1 % loss, Reno: 1 KB beside one download, p99", "ms"),
    // The first window at what is left of the bandwidth, and a half more.
    joined: Some((
        row("50 ms, 1 % loss, Reno: 1 KB on a connection that a download joins, p50", "ms"),
        30.0,
    )),
    new: row("50 ms, 1 % loss, Reno: new connection, p50", "ms"),
};
/// Every kernel has it.
const TAKES_LOSS_FOR_CONGESTION: &str = "reno";

pub(crate) fn bench(rounds: u32) -> anyhow::Result<Vec<Figure>> {
    let line = Line::up(NAME, Host::Hub)?;
    let wan = Wan::between(line.world().lab(), Host::Laptop, Host::Hub, CABLE)?;
    let kinds = if prefer_bbr(line.world().lab())? { &[CLEAN, LOSSY][..] } else { &[CLEAN][..] };
    // What is open has measured another cable.
    line.begins_anew()?;
    let mut samples = Samples::default();
    over(&line, &wan, "50 ms", kinds, rounds, &mut samples)?;
    wan.loses(0);
    wan.imposes(line.world().lab(), TAKES_LOSS_FOR_CONGESTION)?;
    line.begins_anew()?;
    is_imposed(line.world().lab())?;
    over(&line, &wan, "50 ms, Reno", &[LOSS_BASED], rounds, &mut samples)?;
    wan.loses(0);
    drop(wan);
    line.down()?;
    Ok(kinds.iter().chain([&LOSS_BASED]).flat_map(|rows| figures(&samples, rows)).collect())
}

fn over(
    line: &Line,
    wan: &Wan,
    cable: &str,
    kinds: &[Rows],
    rounds: u32,
    samples: &mut Samples,
) -> anyhow::Result<()> {
    let (loads, paths) = (Loads::of(line), [Path::raw(line)?, Path::ours(line)?]);
    for number in 1..=rounds {
        samples.begin_round();
        for rows in kinds {
            wan.loses(rows.lost_per_mille);
            for path in &paths {
                let lost = rows.lost_per_mille / 10;
                tell(&format!("{cable}, {lost} % loss, round {number} of {rounds}: {}", path.name));
                measure(path, &loads, rows, samples);
                if let Some((row, _)) = rows.joined {
                    // With one carrier, as at first.
                    line.begins_anew()?;
                    attempt(path, samples, row, |samples| joined(path, &loads, row, samples));
                }
            }
        }
    }
    Ok(())
}

fn measure(path: &Path, loads: &Loads<'_>, rows: &Rows, samples: &mut Samples) {
    for (way, streams, row, _) in rows.bulks {
        attempt(path, samples, *row, |samples| {
            let moved = loads.bulk(path.to, *way, *streams, BULK)?;
            samples.note(path.name, *row, moved.bytes_per_s / 1e6);
            Ok(())
        });
    }
    attempt(path, samples, rows.beside_p50, |samples| {
        // Ends when it is dropped.
        let for_ms = AROUND_ASKING_MS + ASK_WARM_MS + rows.asked_ms + AROUND_ASKING_MS;
        let _download = loads.begin_bulk(path.to, Way::Down, 1, Time { warm_ms: 0, for_ms })?;
        sleep(Duration::from_millis(AROUND_ASKING_MS));
        let asked = loads.ask(path.to, Time { warm_ms: ASK_WARM_MS, for_ms: rows.asked_ms })?;
        samples.note(path.name, rows.beside_p50, asked.p50_us / 1000.0);
        samples.note(path.name, rows.beside_p99, asked.p99_us / 1000.0);
        Ok(())
    });
    attempt(path, samples, rows.new, |samples| {
        let connected = loads.connect(path.to, 1, CONNECT)?;
        samples.note(path.name, rows.new, connected.p50_us / 1000.0);
        Ok(())
    });
}

fn joined(path: &Path, loads: &Loads<'_>, row: Row, samples: &mut Samples) -> anyhow::Result<()> {
    let asking = loads.begin_ask(path.to, JOINED)?;
    sleep(Duration::from_millis(JOINED_AFTER_MS));
    let download = Time { warm_ms: 0, for_ms: JOINED.warm_ms + JOINED.for_ms };
    // Ends when it is dropped.
    let _download = loads.begin_bulk(path.to, Way::Down, 1, download)?;
    let asked: Asked = found(asking, JOINED)?;
    samples.note(path.name, row, asked.p50_us / 1000.0);
    Ok(())
}

fn figures(samples: &Samples, rows: &Rows) -> Vec<Figure> {
    let times = [rows.beside_p50, rows.beside_p99, rows.new];
    let all = rows.bulks.iter().map(|bulk| bulk.2).chain(times);
    let all = all.chain(rows.joined.map(|(row, _)| row));
    let measured = all.flat_map(|row| {
        let sample = |whose| Figure::median(row.name, row.unit, samples.of(whose, row)).of(whose);
        [sample(RAW), sample(OURS)]
    });
    let bulks =
        rows.bulks.iter().map(|(_, _, row, least)| against(samples, RAW, *row, AtLeast(*least)));
    let limits = [(rows.beside_p50, 1.1), (rows.new, 1.1)].into_iter().chain(rows.joined);
    let times = limits.map(|(row, rtts)| in_rtts(samples, row, rtts));
    measured.chain(bulks).chain(times).chain([slowest(samples, rows)]).collect()
}

fn in_rtts(samples: &Samples, row: Row, at_most: f64) -> Figure {
    let sample = samples.of(OURS, row).iter().map(|ms| ms / RTT_MS).collect();
    Figure::median(&format!("{} / RTT", row.name), "x", sample).holding(AtMost(at_most))
}

/// The slowest one of a hundred is one whose only packet was lost, where packets are: TCP sends it again after two round
/// trips at the soonest, for whomever.
fn slowest(samples: &Samples, rows: &Rows) -> Figure {
    match rows.lost_per_mille {
        0 => in_rtts(samples, rows.beside_p99, 2.0),
        _ => against(samples, RAW, rows.beside_p99, AtMost(1.2)),
    }
}

/// Has both hosts use BBR for whatever does not choose by itself. Says so where the kernel has none: with what it has
/// instead, a lossy cable measures the kernel and not us.
fn prefer_bbr(lab: &Lab) -> anyhow::Result<bool> {
    for host in [Host::Laptop, Host::Hub] {
        let mut sysctl = lab.exec(host, "sh");
        sysctl.args(["-c", "echo bbr > /proc/sys/net/ipv4/tcp_congestion_control"]);
        if say(sysctl).context("cannot ask for BBR")?.code != Some(0) {
            tell("this kernel has no BBR: what it does with 1 % loss is left out");
            return Ok(false);
        }
    }
    Ok(true)
}

/// What was measured with another one would hold the same gates.
fn is_imposed(lab: &Lab) -> anyhow::Result<()> {
    for (host, other) in [(Host::Laptop, Host::Hub), (Host::Hub, Host::Laptop)] {
        let mut ss = lab.exec(host, "ss");
        ss.args(["-tinH", "dst", &other.address().to_string()]);
        let shown = say(ss)?.ok()?.stdout;
        let is_in_use = shown.contains(&format!(" {TAKES_LOSS_FOR_CONGESTION} "));
        ensure!(is_in_use && !shown.contains(" bbr "), "{host}: {shown}");
    }
    Ok(())
}
