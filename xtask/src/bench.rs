//! `bench NAME [--json] [--proxy-mode MODE] [--rounds N]`: figures with gates, measured on the real parts. Exits 1 when a
//! gate is missed.

use crate::{
    setup::{self, Area},
    workspace::{become_command, cargo, run as run_command, sudo},
};
use clap::{Args, Subcommand};
use fairlead_lab::ProxyMode;
use std::process::ExitCode;

#[derive(Debug, Args)]
pub(crate) struct Bench {
    #[command(subcommand)]
    what: What,
    /// Prints one JSON object per figure
    #[arg(long, global = true)]
    json: bool,
    /// How kube-proxy programs Services: iptables or nftables
    #[arg(long, global = true, value_name = "MODE", default_value = "iptables")]
    proxy_mode: ProxyMode,
    /// How often everything is done; each bench has a number of its own
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: Option<u32>,
}

#[derive(Debug, Clone, Copy, Subcommand)]
enum What {
    /// How soon an intercept has a Service's new connections, and gives them back
    Intercept,
    /// What it costs to lose the laptop, a replica or both, and how soon others' changes are followed
    Loss,
}

pub(crate) fn run(bench: &Bench) -> anyhow::Result<ExitCode> {
    let name = match bench.what {
        What::Intercept => "intercept",
        What::Loss => "loss",
    };
    setup::ensure(&[Area::Build, Area::Lab, Area::Hub])?;
    run_command(&mut cargo(["build", "--workspace", "--bins"]))?;
    let mut figures = sudo(fairlead_lab::sibling("bench")?);
    figures.args([name, "--proxy-mode", bench.proxy_mode.name()]);
    if let Some(rounds) = bench.rounds {
        figures.args(["--rounds", &rounds.to_string()]);
    }
    if bench.json {
        figures.arg("--json");
    }
    become_command(&mut figures)
}
