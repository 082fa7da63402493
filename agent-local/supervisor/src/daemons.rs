//! The daemons' processes: started as their user, started again when they die, ended with the supervisor.

use std::{
    collections::HashMap,
    env, fs,
    os::unix::{
        fs::{DirBuilderExt as _, chown},
        process::CommandExt as _,
    },
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use fairlead_model::timers::DAEMON_END;
use laptop_ipc::{
    Failure, FailureKind, Peer, RunFolder,
    supervisor::{Answer, DaemonFolders, Reply},
};
use nix::{
    errno::Errno,
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tracing::{info, warn};

use crate::config::Config;

/// The daemon found another one of its user running.
const EXIT_ANOTHER_RUNS: i32 = 75;

const RESTART_FIRST: Duration = Duration::from_millis(200);
const RESTART_MAX: Duration = Duration::from_secs(30);
/// A daemon that lived this long died of something new.
const LIVED_LONG: Duration = Duration::from_secs(60);
/// The kernel needs a moment to take a killed process away.
const KILL_PATIENCE: Duration = Duration::from_secs(1);

/// Which daemon of which user should run.
#[derive(Clone)]
pub(crate) struct Daemons {
    program: PathBuf,
    run_folder: RunFolder,
    running: Arc<Mutex<HashMap<u32, Running>>>,
    watches: Arc<AtomicU64>,
}

/// A daemon that should run, and which watch sees to it.
#[derive(Clone, Copy)]
struct Running {
    watch: u64,
    /// `None` between its death and its next start: its number may be another process's by then.
    pid: Option<u32>,
}

impl Daemons {
    pub(crate) fn new(config: &Config) -> anyhow::Result<Self> {
        let beside =
            || Ok::<_, std::io::Error>(env::current_exe()?.with_file_name("fairlead-daemon"));
        let program = config.daemon.clone().map_or_else(beside, Ok)?;
        Ok(Self {
            program,
            run_folder: config.run_folder(),
            running: Arc::default(),
            watches: Arc::default(),
        })
    }

    /// Starts a user's daemon unless it runs, and keeps it running until it ends by itself or is stopped.
    pub(crate) fn start(&self, peer: Peer, folders: DaemonFolders) -> Reply {
        let mut running = self.running();
        if let Some(pid) = running.get(&peer.uid).and_then(|running| running.pid) {
            return Ok(Answer::Started { pid, was_running: true });
        }
        let child = self.spawn(peer, &folders).map_err(|error| {
            let program = self.program.display();
            Failure::new(FailureKind::Supervisor, format!("could not start {program}: {error}"))
        })?;
        let pid = child.id();
        let watch = self.watches.fetch_add(1, Ordering::Relaxed);
        running.insert(peer.uid, Running { watch, pid: Some(pid) });
        drop(running);
        let daemons = self.clone();
        thread::spawn(move || daemons.watch(watch, child, peer, &folders));
        Ok(Answer::Started { pid, was_running: false })
    }

    /// Ends a user's daemon: the one we started, or the one that attached to us.
    pub(crate) fn stop(&self, uid: u32, attached: Option<u32>) -> bool {
        let started = self.running().remove(&uid).and_then(|running| running.pid);
        let mut was_running = false;
        for pid in started.into_iter().chain(attached.filter(|pid| Some(*pid) != started)) {
            was_running |= end(pid);
        }
        was_running
    }

    pub(crate) fn stop_all(&self) {
        let uids: Vec<u32> = self.running().keys().copied().collect();
        for uid in uids {
            self.stop(uid, None);
        }
    }

    /// Makes the folder in which a user's daemon puts its socket and its lock.
    pub(crate) fn make_home(&self, peer: Peer) -> std::io::Result<()> {
        let home = self.run_folder.of_user(peer.uid);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(home.parent().expect("in a folder"))?;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&home)?;
        chown(&home, Some(peer.uid), Some(peer.gid))
    }

    fn spawn(&self, peer: Peer, folders: &DaemonFolders) -> std::io::Result<Child> {
        self.make_home(peer)?;
        Command::new(&self.program)
            .arg("--run-dir")
            .arg(self.run_folder.path())
            .arg("--config-dir")
            .arg(&folders.config)
            .arg("--state-dir")
            .arg(&folders.state)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .process_group(0)
            .gid(peer.gid)
            .uid(peer.uid)
            .spawn()
    }

    fn watch(&self, watch: u64, mut child: Child, peer: Peer, folders: &DaemonFolders) {
        let mut pause = RESTART_FIRST;
        loop {
            let born = Instant::now();
            let status = child.wait();
            let ended_well = status
                .as_ref()
                .is_ok_and(|status| status.success() || status.code() == Some(EXIT_ANOTHER_RUNS));
            if ended_well {
                return self.forget(peer.uid, watch);
            }
            if born.elapsed() > LIVED_LONG {
                pause = RESTART_FIRST;
            }
            if !self.note_death(peer.uid, watch) {
                return;
            }
            warn!(uid = peer.uid, "Daemon died ({status:?}); starting it again in {pause:?}");
            let spawn = || self.spawn(peer, folders);
            let Some(next) = self.start_again(peer.uid, watch, &mut pause, spawn) else { return };
            child = next;
            info!(uid = peer.uid, pid = child.id(), "Daemon started again");
        }
    }

    /// Tries until the daemon starts, since its program may be missing or busy while a package is upgraded; `None` when
    /// it is no longer this watch that should.
    fn start_again(
        &self,
        uid: u32,
        watch: u64,
        pause: &mut Duration,
        mut spawn: impl FnMut() -> std::io::Result<Child>,
    ) -> Option<Child> {
        loop {
            thread::sleep(*pause);
            *pause = (*pause * 2).min(RESTART_MAX);
            let mut running = self.running();
            let mine = running.get_mut(&uid).filter(|running| running.watch == watch)?;
            match spawn() {
                Ok(child) => {
                    mine.pid = Some(child.id());
                    return Some(child);
                }
                Err(error) => {
                    warn!(uid, "Could not start the daemon; trying again in {pause:?}: {error}");
                }
            }
        }
    }

    /// Says whether the daemon should run all the same.
    fn note_death(&self, uid: u32, watch: u64) -> bool {
        let mut running = self.running();
        let mine = running.get_mut(&uid).filter(|running| running.watch == watch);
        mine.map(|running| running.pid = None).is_some()
    }

    fn forget(&self, uid: u32, watch: u64) {
        let mut running = self.running();
        if running.get(&uid).is_some_and(|running| running.watch == watch) {
            running.remove(&uid);
        }
    }

    fn running(&self) -> MutexGuard<'_, HashMap<u32, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks a process to end, waits, and insists. Says whether it was there.
fn end(pid: u32) -> bool {
    let pid = Pid::from_raw(i32::try_from(pid).expect("a pid"));
    if kill(pid, Signal::SIGTERM).is_err() {
        return false;
    }
    if is_gone_within(pid, DAEMON_END) {
        return true;
    }
    warn!(%pid, "Daemon does not end when asked; killing it");
    // That it is gone in this very moment is fine, too.
    let _gone_already = kill(pid, Signal::SIGKILL);
    is_gone_within(pid, KILL_PATIENCE)
}

fn is_gone_within(pid: Pid, patience: Duration) -> bool {
    let deadline = Instant::now() + patience;
    while kill(pid, None) != Err(Errno::ESRCH) {
        if Instant::now() > deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(10));
    }
    true
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    const UID: u32 = 1000;
    const WATCH: u64 = 7;

    #[test]
    fn a_daemon_that_cannot_be_started_is_tried_again_until_it_can() {
        let daemons = one_that_died();
        let mut failures = [Errno::ENOENT, Errno::ETXTBSY, Errno::EAGAIN].into_iter();
        let spawn = || match failures.next() {
            Some(errno) => Err(io::Error::from(errno)),
            None => Command::new("true").spawn(),
        };
        let child = daemons.start_again(UID, WATCH, &mut Duration::default(), spawn);
        let mut child = child.expect("started in the end");
        assert_eq!(daemons.running()[&UID].pid, Some(child.id()));
        child.wait().expect("it was started");
    }

    #[test]
    fn a_watch_ends_with_the_wish_for_its_daemon() {
        let daemons = one_that_died();
        let never = || unreachable!("nobody wants it");
        assert!(!daemons.stop(UID, None), "it is dead already");
        assert!(daemons.start_again(UID, WATCH, &mut Duration::default(), never).is_none());
        daemons.running().insert(UID, Running { watch: WATCH + 1, pid: None });
        assert!(daemons.start_again(UID, WATCH, &mut Duration::default(), never).is_none());
    }

    fn one_that_died() -> Daemons {
        let running = HashMap::from([(UID, Running { watch: WATCH, pid: None })]);
        Daemons {
            program: PathBuf::new(),
            run_folder: RunFolder::new(PathBuf::new()),
            running: Arc::new(Mutex::new(running)),
            watches: Arc::default(),
        }
    }
}
