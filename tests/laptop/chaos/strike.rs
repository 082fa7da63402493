//! Strikes, and repairs what only somebody outside repairs. What Fairlead itself has to bring back is left to it.

use std::{
    fs,
    process::{Child, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    thread::{self, sleep},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::plan::{Blow, How, Victim};
use crate::{hub::Hub, machine::Machine};

/// Of somebody who is slow: for so long nothing, then a little.
const STANDS_STILL: Duration = Duration::from_millis(120);
const MOVES: Duration = Duration::from_millis(30);

/// The supervisor's first process, which root starts again when it is gone.
pub(super) struct Guard<'m> {
    machine: &'m Machine,
    child: Mutex<Child>,
}

impl<'m> Guard<'m> {
    pub(super) fn starts(machine: &'m Machine) -> Self {
        Self { machine, child: Mutex::new(started(machine)) }
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pid(&self) -> Pid {
        pid(self.child().id())
    }

    /// Starts it again unless it runs, as the machine's init would.
    pub(super) fn is_started_again(&self) {
        let mut child = self.child();
        if child.try_wait().expect("ours").is_some() {
            *child = started(self.machine);
        }
    }

    /// Tells it to end and returns when it has.
    pub(super) fn ends(&self) -> anyhow::Result<()> {
        signal(self.pid(), Signal::SIGTERM);
        let status = self.child().wait()?;
        anyhow::ensure!(status.success(), "the supervisor ended with {status}");
        Ok(())
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        let mut child = self.child();
        let ended = child.kill().and_then(|()| child.wait());
        ended.map(drop).unwrap_or_default();
    }
}

fn started(machine: &Machine) -> Child {
    let log =
        fs::File::options().create(true).append(true).open(machine.path("/mnt/supervisor.log"));
    let mut supervisor = machine.root("/mnt/bin/fairlead-supervisor");
    supervisor.arg("run").stdin(Stdio::null()).stderr(log.expect("a log"));
    supervisor.spawn().expect("starts")
}

/// Lets the blows fall, each at its moment, and returns when all are over and what root repairs is repaired.
pub(super) fn fall(blows: &[Blow], guard: &Guard<'_>, hub: &Hub) {
    let begun = Instant::now();
    thread::scope(|scope| {
        for blow in blows {
            scope.spawn(move || {
                sleep(blow.at.saturating_sub(begun.elapsed()));
                strike(blow, guard, hub);
            });
        }
    });
    guard.is_started_again();
}

fn strike(blow: &Blow, guard: &Guard<'_>, hub: &Hub) {
    let machine = guard.machine;
    let pids = match blow.victim {
        Victim::Daemon => pids(machine.pids_of("fairlead-daemon")),
        Victim::Worker => machine.worker().map(pid).into_iter().collect(),
        Victim::Guard => vec![guard.pid()],
        Victim::Hub => {
            let strike = if blow.how == How::Killed { Hub::cuts_off } else { Hub::holds };
            strike(hub, true);
            sleep(blow.lasts);
            return strike(hub, false);
        }
    };
    match blow.how {
        How::Killed => each(&pids, Signal::SIGKILL),
        How::Held => held(&pids, blow.lasts),
        How::Slowed => {
            let begun = Instant::now();
            while begun.elapsed() < blow.lasts {
                held(&pids, STANDS_STILL);
                sleep(MOVES);
            }
        }
    }
    if (blow.victim, blow.how) == (Victim::Guard, How::Killed) {
        sleep(blow.lasts);
        guard.is_started_again();
    }
}

fn held(pids: &[Pid], lasts: Duration) {
    each(pids, Signal::SIGSTOP);
    sleep(lasts);
    each(pids, Signal::SIGCONT);
}

fn each(pids: &[Pid], what: Signal) {
    pids.iter().for_each(|pid| signal(*pid, what));
}

/// Whoever is meant may have ended a moment ago.
fn signal(pid: Pid, what: Signal) {
    kill(pid, what).unwrap_or_default();
}

fn pids(numbers: Vec<String>) -> Vec<Pid> {
    numbers.iter().filter_map(|number| number.parse().ok()).map(pid).collect()
}

fn pid(number: u32) -> Pid {
    Pid::from_raw(i32::try_from(number).expect("the kernel's numbers are small"))
}
