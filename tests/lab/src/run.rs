//! Runs other programs to their end; a failure carries the command and what it said.

use anyhow::{Context, ensure};
use std::{
    io::Write,
    process::{Command, Stdio},
};

/// Runs a command and returns what it wrote to standard output.
pub(crate) fn output(command: &mut Command) -> anyhow::Result<String> {
    finish(command, None)
}

/// Runs a command that reads `input`.
pub(crate) fn feed(command: &mut Command, input: &str) -> anyhow::Result<String> {
    finish(command, Some(input))
}

/// Runs a whole line of plain words, for programs whose arguments have no spaces.
pub(crate) fn line(words: &str) -> anyhow::Result<String> {
    let mut words = words.split_whitespace();
    let program = words.next().context("an empty command")?;
    output(Command::new(program).args(words))
}

fn finish(command: &mut Command, input: Option<&str>) -> anyhow::Result<String> {
    let stdin = if input.is_some() { Stdio::piped() } else { Stdio::null() };
    let mut child = command
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("could not start {}", shown(command)))?;
    if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
        stdin
            .write_all(input.as_bytes())
            .with_context(|| format!("{} does not read", shown(command)))?;
    }
    let done = child.wait_with_output()?;
    ensure!(
        done.status.success(),
        "{} failed ({}): {}",
        shown(command),
        done.status,
        String::from_utf8_lossy(&done.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
