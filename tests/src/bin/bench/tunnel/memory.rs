//! What streams cost that do nothing, and what those cost whose readers have stopped.
//!
//! Idle streams are counted before anything else has run: a process keeps what it once needed, and would seem to need
//! nothing for them afterwards.

use std::{process::Command, thread::sleep, time::Duration};

use fairlead_lab::sibling;
use fairlead_tests::{Figure, Gate, Line, Process, begin};

use super::{
    loads::{Loads, Time},
    path::Path,
};
use crate::stage::tell;

const BATCHES: usize = 5;
const STREAMS: usize = 400;
/// What is allocated once, with the first streams.
const FIRST: usize = 50;
const PAIRS: usize = 400;
const STALLED: usize = 64;
const PATIENCE: Duration = Duration::from_secs(60);
/// By how much a process may grow for readers that have stopped, in MB: what it holds for them (32 at the laptop, 256 at
/// the agent), what arrives before that is noticed, and what the allocator keeps.
const LAPTOP_CAP_MB: f64 = 60.0;
const AGENT_CAP_MB: f64 = 320.0;
/// Memory of what has ended is given back, and that of what has begun taken, in this time.
const SETTLED: Duration = Duration::from_millis(500);
/// All windows are full.
const FILLED: Duration = Duration::from_secs(2);
const ASK: Time = Time { warm_ms: 100, for_ms: 700 };

/// The processes of our path, by the names that figures give them.
struct Parts(Vec<(&'static str, Process)>);

impl Parts {
    fn of(line: &Line) -> anyhow::Result<Self> {
        let hub = line.world().hub().process()?;
        let parts = [("laptop daemon", line.ada().daemon()?), ("cluster agent", line.agent()?)];
        Ok(Self(parts.into_iter().chain([("hub", hub)]).collect()))
    }

    fn memory_kb(&self) -> anyhow::Result<Vec<f64>> {
        let kb = |(_, process): &(_, Process)| process.memory_kb().map(as_f64);
        self.0.iter().map(kb).collect()
    }
}

/// Returns how much memory each process needs for a stream that has exchanged 1 KB and is silent: of all of them
/// together, as tables grow in steps.
pub(crate) fn of_idle_streams(line: &Line, loads: &Loads<'_>) -> anyhow::Result<Vec<Figure>> {
    tell("memory of idle streams");
    let (path, parts) = (Path::ours(line)?, Parts::of(line)?);
    drop(loads.idle(path.to, FIRST)?);
    sleep(SETTLED);
    let base = parts.memory_kb()?;
    let open = (0..BATCHES).map(|_| loads.idle(path.to, STREAMS)).collect::<Result<Vec<_>, _>>()?;
    sleep(SETTLED);
    let grown = parts.memory_kb()?;
    drop(open);
    let idle = parts.0.iter().zip(grown.iter().zip(&base)).map(|((name, _), (grown, base))| {
        let sample = vec![(grown - base) / as_f64((BATCHES * STREAMS) as u64)];
        // The hub knows of no stream; what it allocates meanwhile for other reasons is less than this.
        let gate = if *name == "hub" { 0.1 } else { 5.0 };
        let figure = Figure::median(&format!("memory of an idle stream, {name}"), "KB", sample);
        let figure = figure.holding(Gate::AtMost(gate));
        if *name == "hub" { figure } else { figure.stretching_to(3.0) }
    });
    let base = parts.0.iter().zip(&base).map(|((name, _), kb)| {
        Figure::median(&format!("memory without streams, {name}"), "MB", vec![kb / 1024.0])
    });
    Ok(idle.chain(base).collect())
}

/// Returns how much memory the relay needs for two joined halves that are silent.
pub(crate) fn of_idle_pairs() -> anyhow::Result<Figure> {
    tell("memory of idle pairs in the relay");
    let mut relay = Command::new(sibling("load")?);
    relay.args(["relay", &PAIRS.to_string()]);
    let said = begin(relay)?.ends_within(PATIENCE)?.ok()?.json()?;
    let sample = serde_json::from_value(said)?;
    let figure = Figure::median("memory of an idle pair, the hub's relay", "KB", sample);
    Ok(figure.holding(Gate::AtMost(4.0)))
}

/// Returns what it costs another stream, and the memory of both agents, when many readers stop.
pub(crate) fn beside_stalled_readers(
    line: &Line,
    loads: &Loads<'_>,
    rounds: u32,
) -> anyhow::Result<Vec<Figure>> {
    let (path, parts) = (Path::ours(line)?, Parts::of(line)?);
    let (mut slower, mut laptop, mut agent) = (Vec::new(), Vec::new(), Vec::new());
    let base = parts.memory_kb()?;
    for number in 1..=rounds {
        tell(&format!("{STALLED} stalled readers, {number} of {rounds}"));
        let alone = loads.ask(path.to, ASK)?;
        let stalled = loads.stalled(path.to, STALLED)?;
        sleep(FILLED);
        match loads.ask(path.to, ASK) {
            Ok(beside) => slower.push(beside.p50_us / alone.p50_us),
            Err(error) => tell(&format!("beside stalled readers: {error:#}")),
        }
        let held = parts.memory_kb()?;
        laptop.push((held[0] - base[0]) / 1024.0);
        agent.push((held[1] - base[1]) / 1024.0);
        drop(stalled);
        sleep(SETTLED);
    }
    let beside = format!("1 KB beside {STALLED} stalled readers / alone, p50");
    let growth = |name: &str| format!("{STALLED} stalled readers, growth of the {name}");
    Ok(vec![
        Figure::median(&beside, "x", slower).holding(Gate::AtMost(1.5)).stretching_to(1.1),
        Figure::worst(&growth("laptop daemon"), "MB", LAPTOP_CAP_MB, laptop),
        Figure::worst(&growth("cluster agent"), "MB", AGENT_CAP_MB, agent),
    ])
}

#[expect(clippy::cast_precision_loss, reason = "no process is that large")]
fn as_f64(number: u64) -> f64 {
    number as f64
}
