//! `test [SUITE…]`: the suites, from the fast ones to those that need a cluster.

use crate::{
    beside::Beside,
    console, fuzz, lab,
    setup::{self, Area},
    stage::Stages,
    workspace::{build_for_tests, cargo_for_tests, is_root, output, run as run_command},
};
use anyhow::{Context, ensure};
use clap::{Args, ValueEnum};
use fairlead_lab::ProxyMode;
use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

#[derive(Debug, Args)]
pub(crate) struct Test {
    /// Which suites; all that exist when none is named
    #[arg(value_enum)]
    suites: Vec<Suite>,
    /// Runs only the tests whose names contain this, of those that need root
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
    /// A minute of made-up bytes for each parser
    Fuzz,
    /// The same stories on a real cluster, with kube-proxy in both modes
    Cluster,
}

pub(crate) fn run(test: &Test) -> anyhow::Result<ExitCode> {
    let asked = if test.suites.is_empty() { Suite::value_variants() } else { &test.suites };
    let meant = Meant::of(test, asked)?;
    let mut stages = Stages::default();
    // With what the cluster suites leave of the processor.
    let mut fuzzing = None;
    let (mut building, mut scenarios) = (None, None);
    if asked.contains(&Suite::Cluster) && test.only.is_none() {
        stages.run("cluster's programs", || {
            building = Some(lab::build_beside()?);
            Ok(())
        });
    }
    for suite in Suite::value_variants().iter().filter(|suite| asked.contains(suite)) {
        match suite {
            Suite::Unit | Suite::Web | Suite::Fuzz if test.only.is_some() => {}
            Suite::Unit => stages.run("unit", unit),
            Suite::Web => stages.run("web", web),
            // Both wait more than they compute, and neither sees the other.
            Suite::Scenarios if asked.contains(&Suite::Laptop) => {
                scenarios = begin_scenarios(&mut stages, &meant);
            }
            Suite::Scenarios | Suite::Laptop => {
                one_target(&mut stages, &meant, suite);
                if let Some(scenarios) = scenarios.take() {
                    stages.run("scenarios (end)", || scenarios.end());
                }
            }
            Suite::Fuzz => stages.run("fuzz", || {
                fuzzing = Some(fuzz::beside()?);
                Ok(())
            }),
            Suite::Cluster => {
                if let Some(building) = building.take() {
                    stages.run("cluster's programs (end)", || building.end());
                }
                cluster(&mut stages, &meant, test.proxy_mode);
            }
        }
    }
    if let Some(fuzzing) = fuzzing {
        stages.run("fuzz (end)", || fuzzing.end());
    }
    Ok(stages.close())
}

impl Suite {
    /// Returns the test programs that this suite runs as root; names of tests belong to them.
    fn targets(self) -> &'static [&'static str] {
        match self {
            Self::Unit | Self::Web | Self::Fuzz => &[],
            Self::Scenarios => &["scenarios"],
            Self::Laptop => &["laptop"],
            Self::Cluster => &["guard", "cluster", "world", "blind"],
        }
    }
}

/// Which test programs are to run, and which of their tests.
struct Meant<'t> {
    targets: Vec<&'static str>,
    only: Option<&'t str>,
}

impl<'t> Meant<'t> {
    /// Looks which programs have a test that is meant; a word that is part of no test's name is a mistake.
    fn of(test: &'t Test, asked: &[Suite]) -> anyhow::Result<Self> {
        let mut targets: Vec<_> = asked.iter().flat_map(|suite| suite.targets()).copied().collect();
        let only = test.only.as_deref();
        if let Some(only) = only {
            let mut matching = Vec::new();
            for target in targets {
                if has_test(target, only)? {
                    matching.push(target);
                }
            }
            ensure!(!matching.is_empty(), "no test of these suites has `{only}` in its name");
            targets = matching;
        }
        Ok(Self { targets, only })
    }

    /// Returns those of these programs that are meant.
    fn among(&self, targets: &[&'static str]) -> Vec<&'static str> {
        targets.iter().filter(|target| self.targets.contains(target)).copied().collect()
    }
}

/// Says whether a test program has a test with this word in its name.
fn has_test(target: &str, word: &str) -> anyhow::Result<bool> {
    let list = ["--quiet", "--test", target, "--", "--list", word];
    let listed = output(cargo_for_tests("test").args(list))?;
    Ok(String::from_utf8(listed)?.lines().any(|line| line.ends_with(": test")))
}

fn unit() -> anyhow::Result<()> {
    setup::ensure(&[Area::Build, Area::Lab, Area::Hub, Area::Proxies])?;
    // The suites of this package are run by themselves, and some of them as root.
    let others = ["--no-fail-fast", "--exclude", "fairlead-tests"];
    let parts: [&[&str]; 5] = [
        &["--no-fail-fast", "--lib", "--bins"],
        &[others.as_slice(), &["--test", "*"]].concat(),
        &[others.as_slice(), &["--doc"]].concat(),
        &["--test", "charts"],
        &["--features", "hub-relay/plain-for-tests", "--test", "relay", "blind"],
    ];
    // Whatever fails, the others run.
    let run = parts.map(|part| run_command(cargo_for_tests("test").args(part)));
    run.into_iter().collect()
}

/// The console's own suite, then its pages in a browser on a hub of their own.
fn web() -> anyhow::Result<()> {
    setup::ensure(&[Area::Build, Area::Hub, Area::Console, Area::Browser])?;
    console::run(&["check", "test", "build"])?;
    console::install_modules("tests/web")?;
    run_command(console::npm("tests/web").args(["run", "--silent", "check"]))?;
    console::install_modules("tests/lab/issuer")?;
    run_command(&mut build_for_tests(&["--bins"]))?;
    let mut pages = console::npm("tests/web");
    pages.env("FAIRLEAD_HUB", fairlead_lab::sibling("fairlead-hub")?);
    run_command(pages.args(["run", "--silent", "test"]))
}

fn begin_scenarios(stages: &mut Stages, meant: &Meant<'_>) -> Option<Beside> {
    let targets = meant.among(Suite::Scenarios.targets());
    let mut begun = None;
    if !targets.is_empty() {
        stages.run("scenarios", || {
            build_programs()?;
            let mut scenarios = tests(meant, &targets, None, &[]);
            cargo_as_root(&mut scenarios)?;
            begun = Some(Beside::begin("scenarios", vec![scenarios])?);
            Ok(())
        });
    }
    begun
}

fn one_target(stages: &mut Stages, meant: &Meant<'_>, suite: &Suite) {
    for target in meant.among(suite.targets()) {
        stages.run(target, || as_root(meant, &[target], None));
    }
}

/// The lab itself is the same in both of kube-proxy's modes: it is looked at in one. A world waits more than it computes,
/// so that where both modes are asked for, the second one goes on beside the first.
fn cluster(stages: &mut Stages, meant: &Meant<'_>, only_mode: Option<ProxyMode>) {
    for target in meant.among(&["guard", "cluster"]) {
        let mode = only_mode.filter(|_| target == "cluster").map(ProxyMode::name);
        stages.run(target, || as_root(meant, &[target], mode));
    }
    if meant.targets.contains(&"world") {
        worlds(stages, meant, only_mode);
    }
    for target in meant.among(&["blind"]) {
        stages.run(target, || blind(meant));
    }
}

fn worlds(stages: &mut Stages, meant: &Meant<'_>, only_mode: Option<ProxyMode>) {
    let first = only_mode.unwrap_or(ProxyMode::Iptables).name();
    let mut beside = None;
    stages.run(&format!("world ({first})"), || {
        prepare_the_world()?;
        build_programs()?;
        if only_mode.is_none() {
            let mut world = tests(meant, &["world"], Some(mode(ProxyMode::Nftables.name())), &[]);
            cargo_as_root(&mut world)?;
            beside = Some(Beside::begin("world (nftables)", vec![world])?);
        }
        run_as_root(meant, &["world"], Some(mode(first)), &[])
    });
    if let Some(world) = beside {
        stages.run(world.name(), || world.end());
    }
}

fn mode(name: &str) -> (&str, &Path) {
    ("FAIRLEAD_PROXY_MODE", Path::new(name))
}

/// Some stories of the world are told in a browser, and some behind proxies.
fn prepare_the_world() -> anyhow::Result<()> {
    setup::ensure(&[Area::Console, Area::Browser, Area::Proxies])?;
    console::ensure_built()?;
    console::install_modules("tests/web")
}

/// Looks for the words of applications at the hub, where there must be none, and then once more where an agent and a
/// daemon without encryption have put them: a search that cannot find anything proves nothing.
///
/// Those two are built into a folder of their own. Whatever ends this, nobody can take them for the real programs.
fn blind(meant: &Meant<'_>) -> anyhow::Result<()> {
    as_root(meant, &["blind"], None)?;
    let target = target_folder()?;
    let plain = target.join("plain-for-tests");
    let features = ["fairlead-agent/plain-for-tests", "fairlead-daemon/plain-for-tests"];
    let mut build = build_for_tests(&["--bin", "fairlead-agent", "--bin", "fairlead-daemon"]);
    build.args(["--features", &features.join(",")]).arg("--target-dir").arg(&plain);
    // What they are made of is shared: only the programs themselves are apart.
    build.arg("--config").arg(format!("build.build-dir={:?}", target.display().to_string()));
    run_command(&mut build)?;
    let programs = plain.join(programs_folder(&target)?);
    let instead = Some(("FAIRLEAD_PROGRAMS", programs.as_path()));
    run_as_root(meant, &["blind"], instead, &["fairlead-tests/plain-for-tests"])
}

/// Returns the folder into which cargo builds, by where this program lies.
fn target_folder() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let marked = |folder: &&Path| folder.join("CACHEDIR.TAG").exists();
    let target = own.ancestors().filter(marked).last();
    Ok(target.context("this program is not where cargo builds")?.to_path_buf())
}

/// Returns the folder of programs within the folder into which cargo builds.
fn programs_folder(target: &Path) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let folder = own.parent().context("a program is in a folder")?;
    Ok(folder.strip_prefix(target)?.to_path_buf())
}

/// Builds every program of the workspace and runs test targets as root. One test at a time: they share a world.
fn as_root(meant: &Meant<'_>, targets: &[&str], proxy_mode: Option<&str>) -> anyhow::Result<()> {
    build_programs()?;
    run_as_root(meant, targets, proxy_mode.map(mode), &[])
}

fn build_programs() -> anyhow::Result<()> {
    setup::ensure(&[Area::Build, Area::Lab, Area::Hub, Area::Laptop])?;
    run_command(&mut build_for_tests(&["--bins"]))
}

/// Plays rounds of chaos: on laptops of their own, or in a world.
pub(crate) fn run_chaos(rounds: &str, in_a_world: bool) -> anyhow::Result<()> {
    build_programs()?;
    let target = if in_a_world { "world" } else { "laptop" };
    let meant = Meant { targets: vec![target], only: Some("nothing_is_lost_in_chaos") };
    let mut chaos = tests(&meant, &[target], Some(("FAIRLEAD_CHAOS", Path::new(rounds))), &[]);
    // Where it stands is of interest all along.
    run_command(cargo_as_root(chaos.arg("--nocapture"))?)
}

/// Runs test targets as root on the programs that are there.
fn run_as_root(
    meant: &Meant<'_>,
    targets: &[&str],
    variable: Option<(&str, &Path)>,
    features: &[&str],
) -> anyhow::Result<()> {
    run_command(cargo_as_root(&mut tests(meant, targets, variable, features))?)
}

fn tests(
    meant: &Meant<'_>,
    targets: &[&str],
    variable: Option<(&str, &Path)>,
    features: &[&str],
) -> Command {
    let mut cargo = cargo_for_tests("test");
    cargo.arg("--no-fail-fast").args(features.iter().flat_map(|feature| ["--features", feature]));
    for target in targets {
        cargo.args(["--test", target]);
    }
    cargo.args(meant.only).args(["--", "--test-threads=1"]);
    if let Some((name, value)) = variable {
        cargo.env(name, value);
    }
    cargo
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
