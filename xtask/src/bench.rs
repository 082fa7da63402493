//! `bench NAME [--json | --write] [--proxy-mode MODE] [--rounds N]`: figures with gates, measured on the real parts. Exits
//! 1 when a gate is missed.

use crate::{
    console,
    setup::{self, Area},
    workspace::{become_command, cargo, run as run_command, sudo},
};
use anyhow::{Context, ensure};
use clap::{Args, Subcommand};
use fairlead_lab::ProxyMode;
use std::{
    io::Write,
    path::PathBuf,
    process::{Command, ExitCode, Stdio},
};

#[derive(Debug, Args)]
pub(crate) struct Bench {
    #[command(subcommand)]
    what: What,
    /// Prints one JSON object per figure
    #[arg(long, global = true)]
    json: bool,
    /// Keeps the figures in docs/performance, and makes docs/performance.md anew
    #[arg(long, global = true, conflicts_with = "json")]
    write: bool,
    /// With --write: what has to be known of the run
    #[arg(long, global = true, value_name = "TEXT", requires = "write")]
    note: Option<String>,
    /// How kube-proxy programs Services: iptables or nftables
    #[arg(long, global = true, value_name = "MODE", default_value = "iptables")]
    proxy_mode: ProxyMode,
    /// How often everything is done; each bench has a number of its own
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
enum What {
    /// What it takes to consume 5,000 services
    Consume,
    /// How soon an intercept has a Service's new connections, and gives them back
    Intercept,
    /// What it costs to lose the laptop, a replica, the hub or its database, and how soon others' changes are followed
    Loss,
    /// How soon an open connection ends when what it stands on is taken away
    Revoke,
    /// How fast bytes travel, beside the same bytes without us and through haproxy
    Tunnel,
}

pub(crate) fn run(bench: &Bench) -> anyhow::Result<ExitCode> {
    let name = match bench.what {
        What::Consume => "consume",
        What::Intercept => "intercept",
        What::Loss => "loss",
        What::Revoke => "revoke",
        What::Tunnel => "tunnel",
    };
    setup::ensure(&[Area::Build, Area::Lab, Area::Hub, Area::Bench])?;
    let program = programs()?;
    let mut figures = sudo(&program);
    figures.args([name, "--proxy-mode", bench.proxy_mode.name()]);
    if let Some(rounds) = bench.rounds {
        figures.args(["--rounds", &rounds.to_string()]);
    }
    if bench.json || bench.write {
        figures.arg("--json");
    }
    if !bench.write {
        return become_command(&mut figures);
    }
    // What missed a gate is kept, too. The files are the user's: only the bench itself ran as root.
    let found = figures.stderr(Stdio::inherit()).output().context("the bench does not start")?;
    ensure!(!found.stdout.is_empty(), "the bench found nothing");
    let mut record = Command::new(program);
    record.args(["record", name]);
    if let Some(note) = &bench.note {
        record.args(["--note", note]);
    }
    let mut record = record.stdin(Stdio::piped()).spawn()?;
    record.stdin.take().context("piped above")?.write_all(&found.stdout)?;
    let recorded = record.wait()?;
    Ok(if recorded.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Builds everything as it is released, and returns the program that measures.
fn programs() -> anyhow::Result<PathBuf> {
    // A hub that is optimized carries the console in itself.
    console::ensure_built()?;
    run_command(&mut cargo(["build", "--workspace", "--bins", "--release"]))?;
    let own = std::env::current_exe()?;
    let folder = own.ancestors().nth(2).context("this program is not where cargo builds")?;
    Ok(folder.join("release/bench"))
}
