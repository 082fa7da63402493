//! The checkout and the programs around it: running cargo and others here, and telling what happens.

use anyhow::{Context, ensure};
use std::{
    ffi::OsStr,
    io::Write,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

/// Returns the root of the checkout.
pub(crate) fn root() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().map(Path::to_path_buf).unwrap_or_default()
}

/// Returns a command that runs cargo in the checkout, as the same toolchain that runs this.
pub(crate) fn cargo<const N: usize>(arguments: [&str; N]) -> Command {
    command("cargo", arguments)
}

/// Returns a command by which cargo does something for tests: always with the whole workspace selected.
///
/// Which features a dependency has depends on the packages that are selected, and on whether tests are among what is built.
/// Each other choice compiles most dependencies once more, which costs minutes on a fresh machine.
pub(crate) fn cargo_for_tests(verb: &str) -> Command {
    cargo([verb, "--workspace"])
}

/// Returns a command that builds programs as tests have them: with the same dependencies.
pub(crate) fn build_for_tests(programs: &[&str]) -> Command {
    let mut build = cargo_for_tests("build");
    // An example is built with what tests need, and all else that is built with it is.
    build.args(programs).args(["--example", "gen"]);
    build
}

/// Returns a command that runs in the root of the checkout.
pub(crate) fn command<const N: usize>(program: &str, arguments: [&str; N]) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root()).args(arguments);
    command
}

/// Returns a command that runs as root: by sudo unless we are.
pub(crate) fn sudo(program: impl AsRef<OsStr>) -> Command {
    if is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.arg("--preserve-env").arg("--").arg(program);
    command
}

/// Says whether this process may do everything.
pub(crate) fn is_root() -> bool {
    fairlead_lab::is_root()
}

/// Runs a command whose output the person sees.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    let shown = shown(command);
    let status = command.status().with_context(|| format!("could not start `{shown}`"))?;
    ensure!(status.success(), "`{shown}` failed ({status})");
    Ok(())
}

/// Runs a command whose output the person sees only if it fails: most of it says that there was nothing to do.
pub(crate) fn run_quietly(command: &mut Command) -> anyhow::Result<()> {
    let shown = shown(command);
    command.stderr(Stdio::inherit());
    let done = command.output().with_context(|| format!("could not start `{shown}`"))?;
    if !done.status.success() {
        tell(&String::from_utf8_lossy(&done.stdout));
    }
    ensure!(done.status.success(), "`{shown}` failed ({})", done.status);
    Ok(())
}

/// Runs a command and returns what it wrote to standard output; the person sees the rest.
pub(crate) fn output(command: &mut Command) -> anyhow::Result<Vec<u8>> {
    let shown = shown(command);
    command.stderr(Stdio::inherit());
    let done = command.output().with_context(|| format!("could not start `{shown}`"))?;
    ensure!(done.status.success(), "`{shown}` failed ({})", done.status);
    Ok(done.stdout)
}

/// Turns this process into the command, so that signals and exit status are its own.
pub(crate) fn become_command(command: &mut Command) -> anyhow::Result<ExitCode> {
    Err(command.exec()).with_context(|| format!("could not start `{}`", shown(command)))
}

/// Says one line to the person.
pub(crate) fn tell(line: &str) {
    // Nobody reads any more: the work goes on all the same.
    let _unread = writeln!(std::io::stderr(), "{line}");
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}
