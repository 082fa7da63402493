//! Running a program to its end and keeping what it said.

use std::{
    fmt,
    process::{Child, Command, Stdio},
};

use anyhow::{Context, ensure};
use serde_json::Value;

/// What a program said, and how it ended.
#[derive(Debug, Clone)]
pub struct Said {
    /// Exit status; `None` when a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    what: String,
}

impl Said {
    /// Returns itself when the program succeeded, and all it said as the error otherwise.
    pub fn ok(self) -> anyhow::Result<Self> {
        ensure!(self.code == Some(0), "{self}");
        Ok(self)
    }

    /// Reads standard output as JSON.
    pub fn json(&self) -> anyhow::Result<Value> {
        serde_json::from_str(&self.stdout).with_context(|| format!("no JSON: {self}"))
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = self.code.map_or_else(|| "a signal".to_owned(), |code| code.to_string());
        write!(f, "{}\nended with {code}\n{}{}", self.what, self.stdout, self.stderr)
    }
}

/// Runs a program to its end, with nothing to read.
pub fn say(command: Command) -> anyhow::Result<Said> {
    begin(command)?.ends()
}

/// A program at work; dropping it ends it.
#[derive(Debug)]
pub struct Running {
    child: Option<Child>,
    what: String,
}

/// Starts a program, with nothing to read. What it says must fit into a pipe until its end is waited for.
pub fn begin(mut command: Command) -> anyhow::Result<Running> {
    let what = spoken(&command);
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {what}"))?;
    Ok(Running { child: Some(child), what })
}

impl Running {
    /// Waits for its end and returns what it said.
    pub fn ends(mut self) -> anyhow::Result<Said> {
        let child = self.child.take().context("its end is waited for once")?;
        let output = child.wait_with_output()?;
        Ok(Said {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            what: std::mem::take(&mut self.what),
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let ended = child.kill().and_then(|()| child.wait());
            ended.map(drop).unwrap_or_default();
        }
    }
}

fn spoken(command: &Command) -> String {
    command.get_args().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
