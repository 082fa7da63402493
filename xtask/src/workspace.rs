//! The checkout and the programs around it: running cargo and others here, and telling what happens.

use anyhow::{Context, ensure};
use std::{
    io::Write,
    path::{Path, PathBuf},
    process::Command,
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

/// Returns a command that runs in the root of the checkout.
pub(crate) fn command<const N: usize>(program: &str, arguments: [&str; N]) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root()).args(arguments);
    command
}

/// Runs a command whose output the person sees.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    let shown = command.get_program().to_string_lossy().into_owned();
    let status = command.status().with_context(|| format!("could not start {shown}"))?;
    let first = command
        .get_args()
        .next()
        .map(|word| word.to_string_lossy().into_owned())
        .unwrap_or_default();
    ensure!(status.success(), "{shown} {first} failed ({status})");
    Ok(())
}

/// Says one line to the person.
pub(crate) fn tell(line: &str) {
    // Nobody reads any more: the work goes on all the same.
    let _unread = writeln!(std::io::stderr(), "{line}");
}
