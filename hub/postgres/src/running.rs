//! Starting and stopping it.
//!
//! The kernel's parent-death signal belongs to the *thread* that started a child. So one thread starts Postgres, stays,
//! and stops it when the handle is dropped.

use std::{
    fs::{self, File},
    io,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    sync::mpsc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{Installation, PostgresError, owner::Owner};

const START_TIMEOUT: Duration = Duration::from_secs(30);
/// A quick stop writes a checkpoint; a slow disk takes its time.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(10);
const LOOK: Duration = Duration::from_millis(200);
/// `sun_path` holds 108 bytes, of which `/.s.PGSQL.5432.lock` and the end take twenty.
const LONGEST_FOLDER: usize = 107 - ".s.PGSQL.5432.lock/".len();
pub(crate) const SUPERUSER: &str = "fairlead";

/// Whether data must survive a crash of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    Durable,
    /// For tests: nothing is flushed to the disk.
    Throwaway,
}

/// A running Postgres; dropping it stops it.
#[derive(Debug)]
pub struct PrivatePostgres {
    pub(crate) installation: Installation,
    pub(crate) folder: PathBuf,
    stop_tx: Option<mpsc::Sender<()>>,
    keeper: Option<JoinHandle<()>>,
}

impl PrivatePostgres {
    /// Starts Postgres in `folder`, which becomes its own; makes the cluster the first time. Blocks until it answers.
    pub fn start(
        installation: Installation,
        folder: &Path,
        durability: Durability,
    ) -> Result<Self, PostgresError> {
        if folder.as_os_str().len() > LONGEST_FOLDER {
            return Err(PostgresError::PathTooLong {
                path: folder.to_owned(),
                limit: LONGEST_FOLDER,
            });
        }
        let owner = Owner::choose()?;
        owner.own(folder)?;
        retire_predecessor(folder)?;
        if !folder.join("data/PG_VERSION").exists() {
            initdb(&installation, &owner, folder, durability)?;
        }
        let (stop_tx, stop_rx) = mpsc::channel();
        let (ready_tx, ready_rx) = mpsc::channel();
        let keeper = {
            let (installation, folder) = (installation.clone(), folder.to_owned());
            thread::Builder::new()
                .name("postgres".to_owned())
                .spawn(move || {
                    keep(&installation, &owner, &folder, durability, &ready_tx, &stop_rx)
                })
                .map_err(|source| PostgresError::Run { program: "a thread".into(), source })?
        };
        let started = Self {
            installation,
            folder: folder.to_owned(),
            stop_tx: Some(stop_tx),
            keeper: Some(keeper),
        };
        ready_rx.recv().expect("the keeper answers before it ends")?;
        Ok(started)
    }

    /// Returns the URL of one of its databases.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        let socket = self.folder.to_string_lossy().replace('%', "%25").replace('/', "%2F");
        format!("postgres://{SUPERUSER}@localhost/{database}?host={socket}")
    }
}

impl Drop for PrivatePostgres {
    fn drop(&mut self) {
        drop(self.stop_tx.take());
        if let Some(keeper) = self.keeper.take() {
            // A panic of the keeper has been printed by it; there is nothing to add.
            drop(keeper.join());
        }
    }
}

/// Waits for the end of a Postgres that a killed process left in this folder, and asks it to end in case nobody has.
fn retire_predecessor(folder: &Path) -> Result<(), PostgresError> {
    let deadline = Instant::now() + STOP_TIMEOUT;
    let mut asked = false;
    while let Some(pid) = running_in(folder) {
        if !asked {
            // It may be gone by now, which is as well.
            asked = kill(pid, Signal::SIGINT).is_ok();
        }
        if Instant::now() > deadline {
            return Err(not_ready(folder));
        }
        thread::sleep(POLL);
    }
    Ok(())
}

/// Returns the Postgres that `postmaster.pid` names, if it lives and is one: a pid may be somebody else's by now.
fn running_in(folder: &Path) -> Option<Pid> {
    let text = fs::read_to_string(folder.join("data/postmaster.pid")).ok()?;
    let pid: i32 = text.lines().next()?.trim().parse().ok()?;
    let command = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
    let is_ours = command.contains("postgres") && command.contains(&*folder.to_string_lossy());
    is_ours.then(|| Pid::from_raw(pid))
}

fn initdb(
    installation: &Installation,
    owner: &Owner,
    folder: &Path,
    durability: Durability,
) -> Result<(), PostgresError> {
    let program = installation.program("initdb");
    let mut command = owner.command(&program, folder);
    command.args(["-D", "data", "-U", SUPERUSER, "-E", "UTF8", "--locale=C.UTF-8"]);
    // Whoever reaches the socket is trusted: the folder lets in its owner and root only.
    command.args(["-A", "trust", "--no-instructions"]);
    if durability == Durability::Throwaway {
        command.arg("--no-sync");
    }
    let output = command
        .output()
        .map_err(|source| PostgresError::Run { program: program.clone(), source })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(PostgresError::Failed { program: "initdb".to_owned(), said })
}

/// Runs Postgres until the handle is dropped.
fn keep(
    installation: &Installation,
    owner: &Owner,
    folder: &Path,
    durability: Durability,
    ready_tx: &mpsc::Sender<Result<(), PostgresError>>,
    stop_rx: &mpsc::Receiver<()>,
) {
    let started =
        spawn(installation, owner, folder, durability).and_then(|child| await_ready(child, folder));
    let mut child = match started {
        Ok(child) => child,
        // Whoever waits for the answer holds the other end until it comes.
        Err(error) => return ready_tx.send(Err(error)).expect("the starter waits"),
    };
    ready_tx.send(Ok(())).expect("the starter waits");
    // A Postgres that ends by itself is noticed by its connections; the thread has no more to do then.
    while let Err(mpsc::RecvTimeoutError::Timeout) = stop_rx.recv_timeout(LOOK) {
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
    }
    stop(&mut child);
}

fn spawn(
    installation: &Installation,
    owner: &Owner,
    folder: &Path,
    durability: Durability,
) -> Result<Child, PostgresError> {
    let program = installation.program("postgres");
    let log = folder.join("log");
    let log_file = File::create(&log)
        .map_err(|source| PostgresError::Prepare { path: log.clone(), source })?;
    let errors =
        log_file.try_clone().map_err(|source| PostgresError::Prepare { path: log, source })?;
    let mut command = owner.mortal_command(&program, folder);
    command.arg("-D").arg("data").arg("-k").arg(folder);
    command.args(["-c", "listen_addresses=", "-c", "max_connections=300"]);
    if durability == Durability::Throwaway {
        command.args(["-c", "fsync=off", "-c", "synchronous_commit=off"]);
        command.args(["-c", "full_page_writes=off"]);
    }
    command
        // Ctrl-C in a terminal reaches the whole process group: the hub must be able to finish before its database.
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(log_file)
        .stderr(errors)
        .spawn()
        .map_err(|source| PostgresError::Run { program, source })
}

/// Waits until line 8 of `postmaster.pid` says "ready".
fn await_ready(mut child: Child, folder: &Path) -> Result<Child, PostgresError> {
    let deadline = Instant::now() + START_TIMEOUT;
    loop {
        let ended = !matches!(child.try_wait(), Ok(None));
        if !ended && is_ready(&folder.join("data/postmaster.pid"), child.id()) {
            return Ok(child);
        }
        if ended || Instant::now() > deadline {
            stop(&mut child);
            return Err(not_ready(folder));
        }
        thread::sleep(POLL);
    }
}

fn is_ready(pid_file: &Path, pid: u32) -> bool {
    let Ok(text) = fs::read_to_string(pid_file) else { return false };
    let mut lines = text.lines();
    // A file that a killed Postgres left behind names another process.
    lines.next().and_then(|line| line.trim().parse().ok()) == Some(pid)
        && lines.nth(6).is_some_and(|status| status.trim() == "ready")
}

fn not_ready(folder: &Path) -> PostgresError {
    let log = folder.join("log");
    let text = fs::read_to_string(&log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let said = lines[lines.len().saturating_sub(5)..].join(" | ");
    PostgresError::NotReady { log, said }
}

/// Stops quickly: open transactions are rolled back, what was committed is kept.
fn stop(child: &mut Child) {
    let asked: io::Result<()> = i32::try_from(child.id())
        .map_err(io::Error::other)
        .and_then(|pid| Ok(kill(Pid::from_raw(pid), Signal::SIGINT)?));
    if asked.is_ok() {
        // Its status says nothing that the log does not say better.
        drop(child.wait());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_postgres_that_was_left_behind_makes_room_for_the_next() {
        let folder = tempfile::TempDir::with_prefix("fl-pg-").expect("made");
        let start = || {
            let installation = Installation::find().expect("Postgres is installed");
            PrivatePostgres::start(installation, folder.path(), Durability::Throwaway)
        };
        let left_behind = start().expect("started");
        left_behind.ensure_database("kept").expect("made");
        let before = running_in(folder.path()).expect("it runs");
        let next = start().expect("started in its place");
        assert_ne!(running_in(folder.path()), Some(before));
        assert!(next.psql("kept", &["-c", "select 1"]).is_ok(), "with what it had");
        drop(next);
        assert_eq!(running_in(folder.path()), None);
    }
}
