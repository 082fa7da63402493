//! What it takes to consume a whole cluster: 5,000 services, each with its own names and address on the laptop.
//!
//! Measured is what the developer waits for, from the command on until it says that the consume is proven and every name
//! stands; then what a name costs among so many, and what the daemon occupies and uses when nobody does anything.

use std::{
    fs,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use fairlead_lab::Host;
use fairlead_tests::{Figure, Gate, Line, say, within};
use serde_json::json;

use crate::stage::{ms, tell};

const NAME: &str = "bench";
const ROUNDS: u32 = 5;
const SERVICES: u32 = 5_000;
/// The API server makes some hundreds a second.
const MADE_WITHIN: Duration = Duration::from_secs(180);
/// Whoever waits longer has given up.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// Long enough that a tick of the kernel's clock is a tenth of the gate.
const IDLE: Duration = Duration::from_secs(20);

struct Round {
    ready_ms: f64,
    named: f64,
    lookup_ms: f64,
    memory_mb: f64,
    idle_percent: f64,
}

pub(crate) fn bench(rounds: Option<u32>) -> anyhow::Result<Vec<Figure>> {
    let rounds = rounds.unwrap_or(ROUNDS);
    let line = Line::up(NAME, Host::Laptop)?;
    make_services(&line).context("5,000 services cannot be made")?;
    let seen = (1..=rounds).map(|number| {
        tell(&format!("round {number} of {rounds}"));
        round(&line).with_context(|| format!("round {number}"))
    });
    let seen = seen.collect::<anyhow::Result<Vec<_>>>()?;
    line.down()?;
    let sample = |of: fn(&Round) -> f64| seen.iter().map(of).collect::<Vec<_>>();
    let named = Figure::median("services of 5,000 that have their name", "", sample(|r| r.named));
    Ok(vec![
        Figure::p95("5,000 services are consumed (p95)", "ms", 2000.0, sample(|r| r.ready_ms)),
        named.holding(Gate::AtLeast(f64::from(SERVICES))),
        Figure::median("a name among them is looked up", "ms", sample(|r| r.lookup_ms)),
        Figure::worst("memory of the laptop's daemon", "MB", 60.0, sample(|r| r.memory_mb)),
        Figure::worst("processor time of the idle daemon", "%", 0.5, sample(|r| r.idle_percent)),
    ])
}

fn round(line: &Line) -> anyhow::Result<Round> {
    let ada = line.ada();
    line.is_fresh()?;
    let begun = Instant::now();
    ada.begins(&["consume", "*/*"])?.ends_within(READY_WITHIN)?.ok()?;
    let ready_ms = ms(begun.elapsed());
    let named = f64::from(named(line)?);
    let asked = Instant::now();
    let mut last = ada.command("getent");
    last.args(["hosts", &format!("{}.bench", service(SERVICES - 1))]);
    say(last)?.ok()?;
    let lookup_ms = ms(asked.elapsed());
    let daemon = ada.daemon()?;
    let before = daemon.cpu()?;
    sleep(IDLE);
    let used = daemon.cpu()?.saturating_sub(before);
    let memory_kb = f64::from(u32::try_from(daemon.memory_kb()?)?);
    Ok(Round {
        ready_ms,
        named,
        lookup_ms,
        memory_mb: memory_kb / 1024.0,
        idle_percent: used.as_secs_f64() / IDLE.as_secs_f64() * 100.0,
    })
}

/// Counts the services that have a name on the laptop: without words, `getent` shows all there are.
fn named(line: &Line) -> anyhow::Result<u32> {
    let mut getent = line.ada().command("getent");
    getent.arg("hosts");
    let known = say(getent)?.ok()?.stdout;
    let is_ours = |name: &&str| name.ends_with(".bench") && name.starts_with(PREFIX);
    let named = known.lines().filter(|line| line.split_whitespace().any(|name| is_ours(&name)));
    Ok(u32::try_from(named.count())?)
}

/// Makes services without pods. The one that answers comes before them by its name: the consume is proven by it.
fn make_services(line: &Line) -> anyhow::Result<()> {
    let lab = line.world().lab();
    let services: Vec<_> = (0..SERVICES)
        .map(|number| {
            json!({
                "apiVersion": "v1", "kind": "Service",
                "metadata": {"name": service(number), "namespace": "bench"},
                "spec": {"ports": [{"port": 80}]},
            })
        })
        .collect();
    let file = lab.folder().join("services.json");
    fs::write(&file, json!({"apiVersion": "v1", "kind": "List", "items": services}).to_string())?;
    tell("5,000 services are made");
    // `create` asks once for each, `apply` three times.
    say(lab.kubectl(["create", "--filename", &file.display().to_string()]))?.ok()?;
    within(MADE_WITHIN, "the hub knows all of them", || {
        let known = line.services_known()?.len();
        ensure!(u32::try_from(known)? > SERVICES, "it knows {known}");
        Ok(())
    })?;
    Ok(())
}

const PREFIX: &str = "without-pods-";

fn service(number: u32) -> String {
    format!("{PREFIX}{number:04}")
}
