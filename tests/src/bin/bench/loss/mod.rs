//! What it costs when something is lost, and how soon what others change is followed: every figure counts from the event
//! itself, seen by callers that open a connection every 10 ms.

mod agent;
mod changes;
mod database;
mod hub;
mod laptop;

use anyhow::Context;
use fairlead_lab::ProxyMode;
use fairlead_tests::Figure;

use crate::stage::{Stage, on_stage, tell};

/// A round takes about five minutes.
const ROUNDS: u32 = 5;

/// A figure's name, its unit, the gate that its worst value must hold, and what was seen of it.
struct Sample {
    name: &'static str,
    unit: &'static str,
    gate: f64,
    values: Vec<f64>,
}

impl Sample {
    const fn of(name: &'static str, unit: &'static str, gate: f64) -> Self {
        Self { name, unit, gate, values: Vec::new() }
    }
}

/// One event that is made to happen, and the samples that it adds a value to, in their order.
struct Event {
    what: &'static str,
    happens: fn(&Stage<'_>, u32) -> anyhow::Result<Vec<f64>>,
    samples: Vec<Sample>,
}

pub(crate) fn bench(proxy_mode: ProxyMode, rounds: Option<u32>) -> anyhow::Result<Vec<Figure>> {
    let rounds = rounds.unwrap_or(ROUNDS);
    let of =
        [laptop::events(), hub::events(), database::events(), changes::events(), agent::events()];
    let mut events: Vec<Event> = of.into_iter().flatten().collect();
    on_stage(proxy_mode, |stage| {
        for number in 1..=rounds {
            for event in &mut events {
                let what = event.what;
                let values = (event.happens)(stage, number)
                    .with_context(|| format!("{what}, round {number}"))?;
                tell(&format!("round {number} of {rounds}, {what}: {values:.0?}"));
                for (sample, value) in event.samples.iter_mut().zip(values) {
                    sample.values.push(value);
                }
            }
        }
        Ok(())
    })?;
    let samples = events.into_iter().flat_map(|event| event.samples);
    Ok(samples.map(|s| Figure::worst(s.name, s.unit, s.gate, s.values)).collect())
}
