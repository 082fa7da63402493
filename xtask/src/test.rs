//! `test [SUITE…]`: the suites, from the fast ones to those that need a cluster.

use crate::{
    setup::{self, Area},
    stage::Stages,
    workspace::{cargo, command, has, has_suite, is_root, output, root, run as run_command},
};
use anyhow::Context;
use clap::{Args, ValueEnum};
use fairlead_lab::ProxyMode;
use std::process::{Command, ExitCode};

#[derive(Debug, Args)]
pub(crate) struct Test {
    /// Which suites; all that exist when none is named
    #[arg(value_enum)]
    suites: Vec<Suite>,
    /// Runs only the cluster tests whose names contain this
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Runs the cluster suites with kube-proxy in this mode only (iptables or nftables)
    #[arg(long, value_name = "MODE")]
    proxy_mode: Option<ProxyMode>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Suite {
    /// Each crate by itself
    Unit,
    /// The console: types, lints, components, and the pages in a browser
    Web,
    /// The whole path in one process
    Scenarios,
    /// What needs root in a network namespace: the laptop's side
    Laptop,
    /// The same stories on a real cluster, with kube-proxy in both modes
    Cluster,
}

pub(crate) fn run(test: &Test) -> anyhow::Result<ExitCode> {
    let asked = if test.suites.is_empty() { Suite::value_variants() } else { &test.suites };
    let mut stages = Stages::default();
    for suite in Suite::value_variants().iter().filter(|suite| asked.contains(suite)) {
        match suite {
            Suite::Unit => stages.run("unit", unit),
            Suite::Web => stages.run("web", web),
            Suite::Scenarios => targets(&mut stages, test, "scenarios", &["scenarios"]),
            Suite::Laptop => targets(&mut stages, test, "laptop", &["laptop"]),
            Suite::Cluster => cluster(&mut stages, test),
        }
    }
    Ok(stages.close())
}

fn unit() -> anyhow::Result<()> {
    setup::ensure(&[Area::Build, Area::Lab, Area::Hub])?;
    run_command(&mut cargo([
        "test",
        "--no-fail-fast",
        "--workspace",
        "--exclude",
        "fairlead-tests",
    ]))?;
    let plain = ["--features", "plain-for-tests", "--test", "it", "blind"];
    run_command(cargo(["test", "--package", "hub-relay"]).args(plain))?;
    run_command(&mut cargo(["test", "--package", "fairlead-tests", "--lib"]))?;
    if has_suite("charts") {
        run_command(&mut cargo(["test", "--package", "fairlead-tests", "--test", "charts"]))?;
    }
    Ok(())
}

/// The console's own suite, then its pages in a browser on a hub of their own.
fn web() -> anyhow::Result<()> {
    setup::ensure(&[Area::Build, Area::Hub, Area::Web])?;
    console(&["check", "test", "build"])?;
    if has("tests/web/package.json") {
        install_modules("tests/web")?;
        install_modules("tests/lab/issuer")?;
        run_command(&mut cargo(["build", "--package", "fairlead-hub", "--bins"]))?;
        let mut pages = npm("tests/web");
        pages.env("FAIRLEAD_HUB", fairlead_lab::sibling("fairlead-hub")?);
        run_command(pages.args(["run", "--silent", "test"]))?;
    }
    Ok(())
}

/// Runs scripts of the console's package.
pub(crate) fn console(scripts: &[&str]) -> anyhow::Result<()> {
    install_modules("web")?;
    scripts.iter().try_for_each(|script| run_command(npm("web").args(["run", "--silent", script])))
}

/// Installs a folder's modules unless its lock file is the one they were installed from.
fn install_modules(folder: &str) -> anyhow::Result<()> {
    let folder_path = root().join(folder);
    let written = |file: &str| {
        folder_path.join(file).metadata().and_then(|metadata| metadata.modified()).ok()
    };
    if written("node_modules/.package-lock.json") >= written("package-lock.json") {
        return Ok(());
    }
    run_command(npm(folder).args(["ci", "--no-audit", "--no-fund"]))
}

fn npm(folder: &str) -> Command {
    let mut npm = command("npm", []);
    npm.current_dir(root().join(folder));
    npm
}

fn cluster(stages: &mut Stages, test: &Test) {
    if has_suite("guard") && test.only.is_none() {
        targets(stages, test, "guard", &["guard"]);
    }
    let both = [ProxyMode::Iptables, ProxyMode::Nftables];
    for mode in both.into_iter().filter(|mode| test.proxy_mode.is_none_or(|wanted| wanted == *mode))
    {
        let name = format!("cluster ({})", mode.name());
        // The agent's own stories take ten minutes: in the other mode only for those who ask for it.
        let with_agent = mode == ProxyMode::Iptables || test.proxy_mode.is_some();
        let suites = ["cluster", "agent", "world"].into_iter();
        let suites: Vec<_> =
            suites.filter(|suite| has_suite(suite) && (*suite != "agent" || with_agent)).collect();
        stages.run(&name, || as_root(test, &suites, Some(mode.name())));
    }
    if has_suite("blind") {
        stages.run("blind", || blind(test));
    }
}

/// Looks for the words of applications at the hub, where there must be none, and then once more where an agent and a
/// daemon without encryption have put them: a search that cannot find anything proves nothing.
fn blind(test: &Test) -> anyhow::Result<()> {
    as_root(test, &["blind"], None)?;
    let programs = ["build", "--package", "fairlead-agent", "--package", "fairlead-daemon"];
    let plain = ["fairlead-agent/plain-for-tests", "fairlead-daemon/plain-for-tests"];
    let found = run_command(cargo(programs).args(["--features", &plain.join(",")]))
        .and_then(|()| run_as_root(test, &["blind"], None, &["plain-for-tests"]));
    // Nothing may be left that somebody could take for the real programs.
    run_command(&mut cargo(programs))?;
    found
}

fn targets(stages: &mut Stages, test: &Test, name: &str, targets: &[&str]) {
    if targets.iter().all(|target| has_suite(target)) {
        stages.run(name, || as_root(test, targets, None));
    }
}

/// Builds every program of the workspace and runs test targets as root. One test at a time: they share a world.
fn as_root(test: &Test, targets: &[&str], proxy_mode: Option<&str>) -> anyhow::Result<()> {
    setup::ensure(&[Area::Build, Area::Lab, Area::Hub])?;
    run_command(&mut cargo(["build", "--workspace", "--bins"]))?;
    run_as_root(test, targets, proxy_mode, &[])
}

/// Runs test targets as root on the programs that are there.
fn run_as_root(
    test: &Test,
    targets: &[&str],
    proxy_mode: Option<&str>,
    features: &[&str],
) -> anyhow::Result<()> {
    let mut cargo = cargo(["test", "--no-fail-fast", "--package", "fairlead-tests"]);
    cargo.args(features.iter().flat_map(|feature| ["--features", feature]));
    for target in targets {
        cargo.args(["--test", target]);
    }
    cargo.args(&test.only).args(["--", "--test-threads=1"]);
    if let Some(mode) = proxy_mode {
        cargo.env("FAIRLEAD_PROXY_MODE", mode);
    }
    run_command(cargo_as_root(&mut cargo)?)
}

/// Has cargo run the test program as root, and nothing else: what it builds stays the user's.
fn cargo_as_root(cargo: &mut Command) -> anyhow::Result<&mut Command> {
    if !is_root() {
        cargo.env(runner_variable()?, "sudo --preserve-env");
    }
    Ok(cargo)
}

/// The variable by which cargo runs test programs through another program.
fn runner_variable() -> anyhow::Result<String> {
    let version = String::from_utf8(output(Command::new("rustc").arg("-vV"))?)?;
    let host = version
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .context("rustc names no host")?;
    Ok(format!("CARGO_TARGET_{}_RUNNER", host.replace('-', "_").to_uppercase()))
}
