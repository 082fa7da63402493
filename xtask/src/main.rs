//! Every verb of this repository, the same for people and for CI.

mod lab;
mod workspace;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Every verb of this repository, the same for people and for CI. Each sets up what it needs.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Verbs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Starts, ends and enters a two-node Kubernetes on this machine
    #[command(subcommand)]
    Lab(lab::Lab),
}

fn main() -> ExitCode {
    let outcome = match Verbs::parse().verb {
        Verb::Lab(verb) => lab::run(verb),
    };
    outcome.unwrap_or_else(|error| {
        workspace::tell(&format!("error: {error:#}"));
        ExitCode::FAILURE
    })
}
