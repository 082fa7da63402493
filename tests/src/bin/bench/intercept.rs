//! How soon an intercept has a Service's new connections, and how soon it gives them back, seen by callers on both nodes
//! that open a connection every 10 ms.

use std::time::Instant;

use anyhow::Context;
use fairlead_lab::ProxyMode;
use fairlead_tests::{Figure, end_callers};

use crate::stage::{CART, PORT, SETTLED, Stage, ms, on_stage, tell};

const ROUNDS: u32 = 20;

/// What one intercept and its end looked like, in milliseconds since the command was begun.
struct Round {
    first_there: f64,
    all_there: f64,
    first_back: f64,
    all_back: f64,
    failed: f64,
}

pub(crate) fn bench(proxy_mode: ProxyMode, rounds: Option<u32>) -> anyhow::Result<Vec<Figure>> {
    let rounds = rounds.unwrap_or(ROUNDS);
    let seen: Vec<Round> = on_stage(proxy_mode, |stage| {
        (1..=rounds)
            .map(|number| {
                tell(&format!("round {number} of {rounds}"));
                round(stage).with_context(|| format!("round {number}"))
            })
            .collect()
    })?;
    let sample = |of: fn(&Round) -> f64| seen.iter().map(of).collect::<Vec<_>>();
    Ok(vec![
        Figure::p95("first request at the laptop (p95)", "ms", 500.0, sample(|r| r.first_there)),
        Figure::p95(
            "every new connection at the laptop (p95)",
            "ms",
            1500.0,
            sample(|r| r.all_there),
        ),
        Figure::p95(
            "first request at a pod after leave (p95)",
            "ms",
            1000.0,
            sample(|r| r.first_back),
        ),
        Figure::p95("every new connection at a pod (p95)", "ms", 2500.0, sample(|r| r.all_back)),
        Figure::worst("failed connections in a round", "", 0.0, sample(|r| r.failed)),
    ])
}

fn round(stage: &Stage<'_>) -> anyhow::Result<Round> {
    let callers = stage.cart.callers()?;
    std::thread::sleep(SETTLED);
    let begun = Instant::now();
    stage.ada.fairlead(&["intercept", CART, PORT])?.ok()?;
    std::thread::sleep(SETTLED);
    let left = Instant::now();
    stage.ada.fairlead(&["leave", CART])?.ok()?;
    std::thread::sleep(SETTLED);
    let calls = end_callers(callers)?;
    let there = calls.between(begun, left).moved(begun, |name| stage.is_hers(name))?;
    let back = calls.between(left, Instant::now()).moved(left, |name| !stage.is_hers(name))?;
    Ok(Round {
        first_there: ms(there.first),
        all_there: ms(there.all),
        first_back: ms(back.first),
        all_back: ms(back.all),
        failed: f64::from(u32::try_from(calls.failed())?),
    })
}
