//! `cargo xtask bench intercept`: how soon an intercept has a Service's new connections, and how soon it gives them
//! back, seen by callers on both nodes that open a connection every 10 ms.

use std::{
    io::{self, Write},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use fairlead_lab::{Host, ProxyMode};
use fairlead_tests::{Call, Caller, Figure, Person, TEAMSPACE, World, WorldOptions, print_figures};

const ROUNDS: usize = 20;
const LAPTOP_PORT: u16 = 3000;
/// Longer than two syncs of kube-proxy at its default of one a second.
const SETTLED: Duration = Duration::from_secs(3);

fn main() -> ExitCode {
    let as_json = std::env::args().any(|argument| argument == "--json");
    match bench().and_then(|figures| {
        print_figures(&figures, as_json, &mut io::stdout().lock())?;
        Ok(figures.iter().all(|figure| figure.holds))
    }) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let told = writeln!(io::stderr(), "error: {error:#}");
            if told.is_ok() { ExitCode::FAILURE } else { ExitCode::from(2) }
        }
    }
}

/// What one intercept and its end looked like, in milliseconds since the command was begun.
struct Round {
    first_there: f64,
    all_there: f64,
    first_back: f64,
    all_back: f64,
    failed: f64,
}

fn bench() -> anyhow::Result<Vec<Figure>> {
    let options = WorldOptions { name: "bench".to_owned(), proxy_mode: ProxyMode::Iptables };
    let world = World::up(&options)?;
    let ada = world.ada();
    ada.signs_in()?;
    ada.fairlead(&["start"])?.ok()?;
    ada.fairlead(&["teamspace", "use", TEAMSPACE])?.ok()?;
    let own = ada.runs("cart", LAPTOP_PORT)?;
    let mut rounds = Vec::with_capacity(ROUNDS);
    for number in 1..=ROUNDS {
        rounds.push(round(&world, &ada).with_context(|| format!("round {number}"))?);
        writeln!(io::stderr(), "  round {number} of {ROUNDS}")?;
    }
    drop(own);
    ada.fairlead(&["stop"])?.ok()?;
    world.down()?;
    let sample = |of: fn(&Round) -> f64| rounds.iter().map(of).collect::<Vec<_>>();
    Ok(vec![
        Figure::p95("first request at the laptop (p95)", "ms", 1000.0, sample(|r| r.first_there)),
        Figure::p95(
            "every new connection at the laptop (p95)",
            "ms",
            2000.0,
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

fn round(world: &World, ada: &Person<'_>) -> anyhow::Result<Round> {
    let cart = world.shop().address("cart")?.parse()?;
    let callers = Host::NODES.map(|node| Caller::begins(world.lab(), node, cart));
    std::thread::sleep(SETTLED);
    let begun = Instant::now();
    ada.fairlead(&["intercept", "shop/cart", &LAPTOP_PORT.to_string()])?.ok()?;
    std::thread::sleep(SETTLED);
    let left = Instant::now();
    ada.fairlead(&["leave", "shop/cart"])?.ok()?;
    std::thread::sleep(SETTLED);
    let mut calls = Vec::new();
    for caller in callers {
        calls.extend(caller?.ends()?);
    }
    calls.sort_by_key(|call| call.begun);
    let (there, back): (Vec<_>, Vec<_>) =
        calls.iter().filter(|call| call.begun >= begun).partition(|call| call.begun < left);
    let (first_there, all_there) = moved(&there, begun, |name| name == "ada-laptop")?;
    let (first_back, all_back) = moved(&back, left, |name| name != "ada-laptop")?;
    let failed = calls.iter().filter(|call| call.answered_by.is_none()).count();
    Ok(Round {
        first_there,
        all_there,
        first_back,
        all_back,
        failed: f64::from(u32::try_from(failed)?),
    })
}

/// Returns when the first call was answered as wanted, and from when on every one was.
fn moved(
    calls: &[&Call],
    since: Instant,
    wanted: impl Fn(&str) -> bool,
) -> anyhow::Result<(f64, f64)> {
    let as_wanted = |call: &&&Call| call.answered_by.as_deref().is_some_and(&wanted);
    let ms = |call: &Call| call.begun.duration_since(since).as_secs_f64() * 1000.0;
    let Some(first) = calls.iter().find(as_wanted) else { bail!("no call was answered as wanted") };
    let last_other = calls.iter().rfind(|call| !as_wanted(call));
    let settled = last_other.map_or(0.0, |call| ms(call));
    ensure!(
        settled < ms(calls.last().context("calls")?),
        "the last call was not answered as wanted"
    );
    Ok((ms(first), settled))
}
