//! Stands beside a demo on somebody's own cluster and takes everything out of it again, however the demo ends.
//!
//! The show plays in a process of its own: when that is gone, nobody puts anything into the cluster any more.

use std::{
    io::Write,
    os::unix::process::ExitStatusExt as _,
    path::Path,
    process::{Child, Command, ExitCode, ExitStatus},
};

use anyhow::Context;
use fairlead_lab::Another;
use fairlead_tests::Visit;
use nix::{
    sys::signal::{SigSet, Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

/// Plays the demo as a guest of the cluster that is found, given a folder for what is remembered of it; returns the
/// demo's exit status when the cluster is what it was.
pub(crate) fn visit(
    found: impl FnOnce(&Path) -> anyhow::Result<Another>,
    once: bool,
    out: &mut impl Write,
) -> anyhow::Result<ExitCode> {
    // Before the folder, which goes with this function.
    let awaited = await_signals()?;
    let remembered = TempDir::new()?;
    let another = found(remembered.path())?;
    let guest = serde_json::to_string(&another)?;
    let visit = Visit::begins(another, out)?;
    let played = play(&guest, once).and_then(|child| attend(child, &awaited));
    visit.ends()?;
    let status = played?;
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
}

fn await_signals() -> anyhow::Result<SigSet> {
    let mut awaited = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGCHLD] {
        awaited.add(signal);
    }
    // Programs that are started hear signals again.
    awaited.thread_block()?;
    Ok(awaited)
}

/// Starts the show. It ends, too, when this process is killed.
fn play(guest: &str, once: bool) -> anyhow::Result<Child> {
    let mut show = Command::new("setpriv");
    show.args(["--pdeathsig", "TERM", "--"]).arg(std::env::current_exe()?);
    show.args(["--guest-of", guest]).args(once.then_some("--once"));
    show.spawn().context("cannot start the show")
}

/// Waits for its end, and asks for it when somebody asks this process. A terminal asks both.
fn attend(mut show: Child, awaited: &SigSet) -> anyhow::Result<ExitStatus> {
    let pid = Pid::from_raw(show.id().cast_signed());
    loop {
        if let Some(status) = show.try_wait()? {
            return Ok(status);
        }
        if awaited.wait()? != Signal::SIGCHLD {
            kill(pid, Signal::SIGTERM)?;
        }
    }
}
