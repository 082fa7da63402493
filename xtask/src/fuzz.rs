//! `fuzz [TARGET…]`: hands the parsers bytes that libFuzzer makes up, starting from the corpus in `tests/fuzz/corpus`.
//!
//! The instrumentation is turned on by flags that the stable compiler has; `cargo fuzz --fuzz-dir tests/fuzz` works on
//! the same targets where it is installed. What is found on the way stays in `target/fuzz`; an input that breaks
//! something is written there too and named, and belongs into the committed corpus with the fix.

use crate::{
    beside::Beside,
    setup::{self, Area},
    stage::Stages,
    workspace::{cargo, command, root, run as run_command},
};
use anyhow::Context;
use clap::{Args, ValueEnum};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

/// Per target; what CI spends on each.
pub(crate) const SECONDS: u32 = 60;
/// One input that takes longer has found a loop without a bound.
const INPUT_MAX_SECONDS: u32 = 25;
const MEMORY_MAX_MB: u32 = 1024;
const INPUT_MAX_BYTES: u32 = 16 << 10;

/// As `cargo fuzz` sets them, without the sanitizers: what is fuzzed is safe Rust, and the few `unsafe` lines there are
/// (descriptors and a lease, each with its reason) are in nobody's way to a parser.
const FLAGS: [&str; 8] = [
    "--cfg fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
    "-Cdebug-assertions",
];

#[derive(Debug, Args)]
pub(crate) struct Fuzz {
    /// Which targets; all when none is named
    #[arg(value_enum)]
    targets: Vec<Target>,
    /// How long each is fuzzed
    #[arg(long, value_name = "SECONDS", default_value_t = SECONDS)]
    seconds: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Target {
    /// Frames on a carrier, after both ends have proven who they are
    Frames,
    /// The relay's preface, tickets, the wish to open a stream
    Opens,
    /// Grants
    Grants,
    /// The hosts file
    Hosts,
    /// Questions to the laptop's DNS server, and what the cluster's says
    Dns,
    /// The sockets of daemon and supervisor
    Ipc,
    /// Patterns of services
    Patterns,
}

pub(crate) fn run(fuzz: &Fuzz) -> anyhow::Result<ExitCode> {
    let targets = if fuzz.targets.is_empty() { Target::value_variants() } else { &fuzz.targets };
    let mut stages = Stages::default();
    stages.run("build", build);
    for target in targets {
        stages.run(target.name(), || target.look_for(fuzz.seconds));
    }
    Ok(stages.close())
}

/// Builds the targets and fuzzes each for a minute with what other work leaves of the processor.
pub(crate) fn beside() -> anyhow::Result<Beside> {
    build()?;
    let looks = Target::value_variants().iter().map(|target| target.command(SECONDS));
    Beside::begin("fuzz", looks.collect::<anyhow::Result<_>>()?)
}

fn folder() -> PathBuf {
    root().join("target/fuzz")
}

fn build() -> anyhow::Result<()> {
    setup::ensure(&[Area::Build])?;
    let mut build = cargo(["build", "--package", "fairlead-fuzz", "--features", "libfuzzer"]);
    build.args(["--profile", "fuzz", "--bins", "--target-dir"]).arg(folder());
    run_command(build.env("RUSTFLAGS", FLAGS.join(" ")))
}

impl Target {
    fn name(self) -> &'static str {
        match self {
            Self::Frames => "frames",
            Self::Opens => "opens",
            Self::Grants => "grants",
            Self::Hosts => "hosts",
            Self::Dns => "dns",
            Self::Ipc => "ipc",
            Self::Patterns => "patterns",
        }
    }

    fn look_for(self, seconds: u32) -> anyhow::Result<()> {
        run_command(&mut self.command(seconds)?)
    }

    fn command(self, seconds: u32) -> anyhow::Result<Command> {
        let name = self.name();
        let found = folder().join("corpus").join(name);
        fs::create_dir_all(&found)?;
        let artifacts = folder().join("artifacts");
        fs::create_dir_all(&artifacts)?;
        let own = std::env::current_exe()?;
        let triple =
            own.ancestors().nth(2).and_then(Path::file_name).context("cargo built this")?;
        let programs = folder().join(triple).join("fuzz");
        let mut fuzzer = command("nice", ["-n", "19"]);
        fuzzer.arg(programs.join(format!("fuzz-{name}")));
        fuzzer.arg(format!("-max_total_time={seconds}"));
        fuzzer.arg(format!("-timeout={INPUT_MAX_SECONDS}"));
        fuzzer.arg(format!("-rss_limit_mb={MEMORY_MAX_MB}"));
        fuzzer.arg(format!("-max_len={INPUT_MAX_BYTES}"));
        fuzzer.args(["-verbosity=0", "-print_final_stats=1"]);
        fuzzer.arg(format!("-artifact_prefix={}/{name}-", artifacts.display()));
        fuzzer.arg(found).arg(root().join("tests/fuzz/corpus").join(name));
        Ok(fuzzer)
    }
}
