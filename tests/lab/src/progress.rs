//! Says what a long step does and how long it took: one line when it ends, and signs of life until then.

use std::{
    io::{IsTerminal, Write},
    sync::mpsc::{RecvTimeoutError, Sender, channel},
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// A sign of life in a log; a terminal gets one each second.
const EVERY: Duration = Duration::from_secs(30);

/// One step under way; says on standard error how it ended.
#[derive(Debug)]
pub struct Step {
    what: String,
    begun: Instant,
    quiet_tx: Option<Sender<()>>,
    teller: Option<JoinHandle<()>>,
}

impl Step {
    /// Begins to tell about a step.
    pub fn begin(what: impl Into<String>) -> Self {
        let (what, begun) = (what.into(), Instant::now());
        let (quiet_tx, quiet_rx) = channel();
        let told = what.clone();
        let teller = std::thread::spawn(move || {
            let on_terminal = std::io::stderr().is_terminal();
            let every = if on_terminal { Duration::from_secs(1) } else { EVERY };
            while quiet_rx.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                let end = if on_terminal { "\r" } else { "\n" };
                tell(&format!("  … {told} ({}){end}", took(begun.elapsed())));
            }
        });
        Self { what, begun, quiet_tx: Some(quiet_tx), teller: Some(teller) }
    }

    /// Says that the step is done, and how long it took.
    pub fn done(mut self) -> Duration {
        let elapsed = self.begun.elapsed();
        self.fall_silent();
        tell(&format!("  ✓ {} ({})\n", self.what, took(elapsed)));
        elapsed
    }

    /// Runs a piece of work as a step; a failure is told as one.
    pub fn run<T>(what: &str, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
        let step = Self::begin(what);
        let outcome = work();
        if outcome.is_ok() {
            step.done();
        }
        outcome
    }

    fn fall_silent(&mut self) {
        self.quiet_tx = None;
        if let Some(teller) = self.teller.take() {
            teller.join().expect("the teller only writes");
        }
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if self.teller.is_some() {
            self.fall_silent();
            tell(&format!("  ✗ {} ({})\n", self.what, took(self.begun.elapsed())));
        }
    }
}

/// Returns a duration as a person says it.
pub(crate) fn took(duration: Duration) -> String {
    match duration.as_secs() {
        0..60 => format!("{:.1} s", duration.as_secs_f64()),
        seconds => format!("{} min {} s", seconds / 60, seconds % 60),
    }
}

fn tell(line: &str) {
    let mut stderr = std::io::stderr().lock();
    // Nobody reads any more: the work goes on all the same.
    let _unread = stderr.write_all(line.as_bytes());
    let _unread = stderr.flush();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_people_say_them() {
        assert_eq!(took(Duration::from_millis(9_530)), "9.5 s");
        assert_eq!(took(Duration::from_secs(427)), "7 min 7 s");
    }
}
