//! Running a program to its end and keeping what it said.

use std::{
    fmt,
    io::{self, Read},
    process::{Child, Command, Stdio},
    thread::{self, JoinHandle, sleep},
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

/// Between two looks at whether a program has ended.
const LOOK_EVERY: Duration = Duration::from_millis(5);

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
        let code = ended_with(self.code);
        write!(f, "{}\nended with {code}\n{}{}", self.what, self.stdout, self.stderr)
    }
}

/// Says what a program ended with.
pub(crate) fn ended_with(code: Option<i32>) -> String {
    code.map_or_else(|| "a signal".to_owned(), |code| code.to_string())
}

/// Runs a program to its end, with nothing to read.
pub fn say(command: Command) -> anyhow::Result<Said> {
    begin(command)?.ends()
}

/// A program at work; dropping it ends it.
#[derive(Debug)]
pub struct Running {
    /// Until its end was waited for.
    program: Option<Program>,
    what: String,
}

#[derive(Debug)]
struct Program {
    child: Child,
    stdout: Hearing,
    stderr: Hearing,
}

/// Everything is read at once: a program whose pipe is full waits until somebody reads.
type Hearing = JoinHandle<io::Result<Vec<u8>>>;

/// Starts a program, with nothing to read.
pub fn begin(mut command: Command) -> anyhow::Result<Running> {
    let what = spoken(&command);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {what}"))?;
    let stdout = hear(child.stdout.take().expect("piped"));
    let stderr = hear(child.stderr.take().expect("piped"));
    Ok(Running { program: Some(Program { child, stdout, stderr }), what })
}

fn hear(mut pipe: impl Read + Send + 'static) -> Hearing {
    thread::spawn(move || {
        let mut heard = Vec::new();
        pipe.read_to_end(&mut heard).map(|_| heard)
    })
}

fn heard(hearing: Hearing) -> anyhow::Result<String> {
    let heard = hearing.join().map_err(|_| anyhow!("nobody heard what was said"))??;
    Ok(String::from_utf8_lossy(&heard).into_owned())
}

impl Running {
    /// Sends what Ctrl-C sends.
    pub fn interrupt(&self) {
        let pid = self.program.as_ref().and_then(|program| i32::try_from(program.child.id()).ok());
        // It may have ended by itself.
        pid.map_or(Ok(()), |pid| kill(Pid::from_raw(pid), Signal::SIGINT)).unwrap_or_default();
    }

    /// Waits for its end and returns what it said; kills it when it takes longer.
    pub fn ends_within(mut self, patience: Duration) -> anyhow::Result<Said> {
        let begun = Instant::now();
        let program = self.program.as_mut().context("its end is waited for once")?;
        while program.child.try_wait()?.is_none() {
            if begun.elapsed() > patience {
                bail!("{}\nhas not ended after {patience:?}", self.what);
            }
            sleep(LOOK_EVERY);
        }
        self.ends()
    }

    /// Waits for its end and returns what it said.
    pub fn ends(mut self) -> anyhow::Result<Said> {
        let program = self.program.take().context("its end is waited for once")?;
        let Program { mut child, stdout, stderr } = program;
        let code = child.wait()?.code();
        let what = std::mem::take(&mut self.what);
        Ok(Said { code, stdout: heard(stdout)?, stderr: heard(stderr)?, what })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(Program { child, .. }) = &mut self.program {
            let ended = child.kill().and_then(|()| child.wait());
            ended.map(drop).unwrap_or_default();
        }
    }
}

fn spoken(command: &Command) -> String {
    command.get_args().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_takes_too_long_is_killed() {
        let mut sleeper = Command::new("sleep");
        sleeper.arg("600");
        let error = begin(sleeper).expect("begun").ends_within(Duration::ZERO).expect_err("killed");
        assert!(error.to_string().contains("has not ended"), "{error}");
        let mut echo = Command::new("echo");
        echo.arg("said");
        let said = begin(echo).expect("begun").ends_within(Duration::from_secs(60)).expect("ended");
        assert_eq!(said.stdout, "said\n");
    }

    #[test]
    fn a_program_that_says_more_than_a_pipe_holds_ends_by_itself() {
        let mut counter = Command::new("seq");
        counter.arg("1000000");
        let said = begin(counter).expect("begun").ends_within(Duration::from_secs(60));
        assert!(said.expect("ended").stdout.ends_with("\n1000000\n"));
    }
}
