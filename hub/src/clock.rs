//! Time, as something that is given. Nothing else in the hub reads a clock that decides anything.

use std::{fmt, time::Duration};

use jiff::Timestamp;
use nix::time::{ClockId, clock_gettime};

pub trait Clock: fmt::Debug + Send + Sync {
    /// Returns what the clock on the wall says. It may be wrong, and be set right at any moment.
    fn now(&self) -> Timestamp;

    /// Returns how long the machine has been on: by a clock that nobody sets, and that goes on while it sleeps.
    fn since_boot(&self) -> Duration;
}

/// The clocks of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn since_boot(&self) -> Duration {
        clock_gettime(ClockId::CLOCK_BOOTTIME).expect("Linux has this clock").into()
    }
}
