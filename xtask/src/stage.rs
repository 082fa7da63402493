//! The stages of a long verb: each is announced, timed, and listed at the end.

use crate::workspace::tell;
use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

/// What has been run so far and how it went.
#[derive(Debug, Default)]
pub(crate) struct Stages {
    done: Vec<(String, Duration, bool)>,
}

impl Stages {
    /// Runs a stage. A failure is told at once and counted; later stages still run.
    pub(crate) fn run(&mut self, name: &str, work: impl FnOnce() -> anyhow::Result<()>) {
        tell(&format!("── {name}"));
        let begun = Instant::now();
        let outcome = work();
        if let Err(error) = &outcome {
            tell(&format!("error: {error:#}"));
        }
        self.done.push((name.to_owned(), begun.elapsed(), outcome.is_ok()));
    }

    /// Lists the stages with their durations and says whether all of them passed.
    pub(crate) fn close(self) -> ExitCode {
        tell("──");
        let width =
            self.done.iter().map(|(name, ..)| name.chars().count()).max().unwrap_or_default();
        for (name, duration, passed) in &self.done {
            let mark = if *passed { "✓" } else { "✗" };
            tell(&format!("{mark} {name:<width$} {:>7.1} s", duration.as_secs_f64()));
        }
        let failed = self.done.iter().any(|(_, _, passed)| !passed);
        if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }
}
