//! The pause container: holds a pod's namespaces, buries its orphans, and ends when it is told to.

use nix::sys::{
    signal::{SigSet, Signal},
    wait::{WaitPidFlag, WaitStatus, waitpid},
};

fn main() {
    let mut awaited = SigSet::empty();
    awaited.add(Signal::SIGTERM);
    awaited.add(Signal::SIGINT);
    awaited.add(Signal::SIGCHLD);
    awaited.thread_block().expect("a process may block its own signals");
    while let Ok(Signal::SIGCHLD) = awaited.wait() {
        bury_orphans();
    }
}

fn bury_orphans() {
    while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
        if status == WaitStatus::StillAlive {
            return;
        }
    }
}
