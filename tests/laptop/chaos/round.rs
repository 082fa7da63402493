//! One round on a machine of its own: ada does what the plan says and is struck meanwhile. Afterwards the machine works
//! again by itself, what she had is there, and when she has stopped, nothing is.

use std::{
    fs,
    thread::{self, sleep},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use fairlead_tests::{Running, Said, begin, within};
use serde_json::Value;

use super::{
    plan::{Act, Cut, How, Plan, Step, Victim},
    strike::{Guard, fall},
};
use crate::{
    hub::Hub,
    machine::{ADA, HOSTS, Machine},
};

/// Speed is not judged here: only for ever is too long.
const PATIENCE: Duration = Duration::from_secs(45);
/// The session that a machine has of before.
const BEFORE: &str = "01980a3f-0000-7000-8000-000000000001";
const PANICKED: i32 = 101;

pub(super) fn play(plan: &Plan) -> anyhow::Result<()> {
    let machine = Machine::new();
    let hub = Hub::on(&machine);
    hub.has_signed_in(&machine, ADA);
    if plan.has_consumed {
        machine.has_consumed(ADA, &["shop/cart", "shop/frontend"]);
    }
    let before = Dump::of(&machine)?;
    let guard = Guard::starts(&machine);
    let played = thread::scope(|scope| {
        scope.spawn(|| fall(&plan.blows, &guard, &hub));
        plan.steps.iter().try_for_each(|step| does(&machine, step))
    });
    played
        .and_then(|()| ends_well(&machine, &hub, &guard, plan, &before))
        .with_context(|| words(&machine))
}

/// Runs the command of a step. It may fail, since whoever it needs may be dead; but it neither hangs nor panics.
fn does(machine: &Machine, step: &Step) -> anyhow::Result<()> {
    let words: &[&str] = match step.act {
        Act::Start => &["start"],
        Act::Consume => &["consume", "shop/cart"],
        Act::Intercept => &["intercept", "shop/cart", "3000"],
        Act::Leave => &["leave", "shop/cart"],
        Act::Stop => &["stop"],
    };
    let command = begins(machine, words)?;
    if let Some((cut, after)) = step.cut {
        sleep(after);
        if cut == Cut::Killed {
            drop(command);
            return Ok(());
        }
        command.interrupt();
    }
    let said = command.ends_within(PATIENCE)?;
    // Before a command listens for Ctrl-C, that ends it as any other program.
    let has_code = said.code.is_some() || step.cut.is_some();
    ensure!(has_code && said.code != Some(PANICKED), "{said}");
    Ok(())
}

fn begins(machine: &Machine, words: &[&str]) -> anyhow::Result<Running> {
    let mut fairlead = machine.user(ADA, "/mnt/bin/fairlead");
    fairlead.args(words);
    begin(fairlead)
}

fn says(machine: &Machine, words: &[&str]) -> anyhow::Result<Said> {
    begins(machine, words)?.ends_within(PATIENCE)
}

fn ends_well(
    machine: &Machine,
    hub: &Hub,
    guard: &Guard<'_>,
    plan: &Plan,
    before: &Dump,
) -> anyhow::Result<()> {
    // A supervisor that found its predecessor still taking things back has ended, and init tries again.
    within(PATIENCE, "it starts again", || {
        guard.is_started_again();
        says(machine, &["start"])?.ok()
    })?;
    within(PATIENCE, "what is listed is what stands", || {
        guard.is_started_again();
        let status = says(machine, &["status", "-o", "json"])?;
        is_as_listed(machine, plan, &status.ok()?.json()?)
    })?;
    // A supervisor that has just been started again may be cleaning up.
    within(PATIENCE, "it stops", || says(machine, &["stop"])?.ok())?;
    within(PATIENCE, "the daemon is gone, and what it did", || {
        ensure!(machine.pids_of("fairlead-daemon").is_empty(), "it runs");
        Dump::of(machine)?.is(before)
    })?;
    let kept = machine.path(&format!("/mnt/home/{ADA}/.local/state/fairlead/sessions.json"));
    let kept = fs::read_to_string(kept).unwrap_or_else(|_| "[]".to_owned());
    ensure!(kept.trim() == "[]", "sessions would be taken up again: {kept}");
    // What the hub began and nobody heard of, or could not be told is over, is ended over the link, which this hub has not.
    let is_heard = plan.blows.iter().all(|blow| {
        blow.victim != Victim::Daemon && (blow.victim, blow.how) != (Victim::Hub, How::Killed)
    });
    ensure!(!is_heard || hub.live() == 0, "a session lives at the hub");
    guard.ends()?;
    Dump::of(machine)?.is(before)?;
    ensure!(machine.pids_of("fairlead-superv").is_empty(), "a part of the supervisor runs");
    Ok(())
}

/// Says whether the machine is as the daemon shows it, and the session of before is there unless ada ended it.
fn is_as_listed(machine: &Machine, plan: &Plan, status: &Value) -> anyhow::Result<()> {
    let sessions = status["sessions"].as_array().context("a list")?;
    let over = ["ended", "refused"];
    let lives = |s: &&Value| !over.contains(&s["phase"].as_str().unwrap_or_default());
    let consumes: Vec<_> =
        sessions.iter().filter(lives).filter(|s| s["kind"] == "consume").collect();
    let is_stopped = plan.steps.iter().any(|step| step.act == Act::Stop);
    if plan.has_consumed && !is_stopped {
        ensure!(consumes.iter().any(|s| s["id"] == BEFORE), "the session is lost: {status}");
    }
    let services: Vec<_> =
        consumes.iter().filter_map(|s| s["services"].as_array()).flatten().collect();
    let expected = if services.is_empty() { "unchanged" } else { "proven" };
    ensure!(status["laptop"]["state"] == expected, "{status}");
    let hosts = machine.hosts();
    for service in &services {
        let name = service["name"].as_str().context("a name")?;
        ensure!(hosts.contains(&format!(" {name} ")), "{name} is not among\n{hosts}");
    }
    if services.is_empty() {
        ensure!(hosts == HOSTS, "names nobody wants:\n{hosts}");
    }
    Ok(())
}

/// What of the machine must be afterwards as it was before.
#[derive(PartialEq, Eq)]
struct Dump(Vec<(String, String)>);

impl Dump {
    fn of(machine: &Machine) -> anyhow::Result<Self> {
        let mut found = vec![
            ("nftables".to_owned(), machine.rules()),
            ("network".to_owned(), machine.network()),
        ];
        for entry in fs::read_dir(machine.path("/mnt/upper"))? {
            let path = entry?.path();
            // Of a folder the name is enough: we make none.
            let bytes = fs::read(&path).unwrap_or_default();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            found.push((format!("/etc/{name}"), String::from_utf8_lossy(&bytes).into_owned()));
        }
        found.sort();
        Ok(Self(found))
    }

    fn is(&self, before: &Self) -> anyhow::Result<()> {
        let new = |here: &Self, there: &Self| {
            let only = here.0.iter().filter(|one| !there.0.contains(one));
            only.map(|(what, text)| format!("{what}: {text}\n")).collect::<String>()
        };
        if self == before {
            return Ok(());
        }
        bail!("something was left\nnow:\n{}before:\n{}", new(self, before), new(before, self))
    }
}

/// The last words of supervisor and daemon, for whoever must understand a failure.
fn words(machine: &Machine) -> String {
    const LINES: usize = 60;
    let last = |path: &str| {
        let log = fs::read_to_string(machine.path(path)).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        format!("--- {path}\n{}\n", lines[lines.len().saturating_sub(LINES)..].join("\n"))
    };
    let daemon = format!("/mnt/home/{ADA}/.local/state/fairlead/daemon.log");
    last("/mnt/supervisor.log") + &last(&daemon)
}
