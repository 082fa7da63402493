//! `bench NAME [--json]`: figures with gates, measured on the real parts. Exits 1 when a gate is missed.

use crate::{
    setup::{self, Area},
    workspace::{become_command, cargo, run as run_command, sudo},
};
use clap::{Args, Subcommand};
use std::process::ExitCode;

#[derive(Debug, Args)]
pub(crate) struct Bench {
    #[command(subcommand)]
    what: What,
    /// Prints one JSON object per figure
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Clone, Copy, Subcommand)]
enum What {
    /// How soon an intercept has a Service's new connections, and gives them back
    Intercept,
}

pub(crate) fn run(bench: &Bench) -> anyhow::Result<ExitCode> {
    let program = match bench.what {
        What::Intercept => "bench",
    };
    setup::ensure(&[Area::Build, Area::Lab, Area::Hub])?;
    run_command(&mut cargo(["build", "--workspace", "--bins"]))?;
    let mut figures = sudo(fairlead_lab::sibling(program)?);
    if bench.json {
        figures.arg("--json");
    }
    become_command(&mut figures)
}
