//! Every verb of this repository, the same for people and for CI.

mod apt;
mod bench;
mod beside;
mod chaos;
mod check;
mod console;
mod demo;
mod fuzz;
mod generate;
mod lab;
mod setup;
mod stage;
mod test;
mod transcript;
mod version;
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
    /// Installs what a Debian or Ubuntu machine lacks, and says what to do elsewhere
    Setup,
    /// Starts, ends and enters a two-node Kubernetes on this machine
    #[command(subcommand)]
    Lab(lab::Lab),
    /// Shows consume and intercept on a real cluster, and stays up to be tried
    Demo(demo::Demo),
    /// Measures on the real parts and holds the figures against their gates
    Bench(bench::Bench),
    /// Kills, holds and slows whatever runs, and sees that nothing is lost and nothing left
    Chaos(chaos::Chaos),
    /// Runs the tests: all of them, or the suites that are named
    Test(test::Test),
    /// Hands the parsers bytes that a machine makes up
    Fuzz(fuzz::Fuzz),
    /// Checks formatting, lints, dependencies, documentation and generated files
    Check,
    /// Makes every generated file anew
    Gen(generate::Gen),
}

fn main() -> ExitCode {
    let outcome = match Verbs::parse().verb {
        Verb::Setup => setup::run(),
        Verb::Lab(verb) => lab::run(verb),
        Verb::Demo(demo) => demo::run(&demo),
        Verb::Bench(bench) => bench::run(&bench),
        Verb::Chaos(chaos) => chaos::run(&chaos),
        Verb::Test(test) => test::run(&test),
        Verb::Fuzz(fuzz) => fuzz::run(&fuzz),
        Verb::Check => check::run(),
        Verb::Gen(gen_) => generate::run(&gen_),
    };
    outcome.unwrap_or_else(|error| {
        workspace::tell(&format!("error: {error:#}"));
        ExitCode::FAILURE
    })
}
