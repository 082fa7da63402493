//! Waiting for something to become true, with an end.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow};

/// Between two looks. Short, so that what is measured by looking is not made longer by it.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Looks until `look` succeeds and returns what it found and how long that took; the last failure is the error.
pub fn within<T>(
    patience: Duration,
    what: &str,
    mut look: impl FnMut() -> anyhow::Result<T>,
) -> anyhow::Result<(T, Duration)> {
    let begun = Instant::now();
    loop {
        match look() {
            Ok(found) => return Ok((found, begun.elapsed())),
            Err(error) if begun.elapsed() > patience => {
                return Err(error).with_context(|| format!("{what}: not within {patience:?}"));
            }
            Err(_) => sleep(LOOK_EVERY),
        }
    }
}

/// Looks until `holds` says yes.
pub fn eventually(
    patience: Duration,
    what: &str,
    mut holds: impl FnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<Duration> {
    within(patience, what, || if holds()? { Ok(()) } else { Err(anyhow!("it does not hold")) })
        .map(|((), took)| took)
}
