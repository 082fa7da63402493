//! The guard: a parent that does nothing but bring the worker back, and see to it that it ends.
//!
//! Whichever of the two is killed, the other takes the machine back to what it was: a worker whose guard dies is told
//! by the kernel and takes everything back; a worker that dies is started again and cleans up first.

use std::{
    env,
    fs::{self, OpenOptions},
    os::unix::{net::UnixStream, process::CommandExt as _},
    process::{self, Child, Command, ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use laptop_ipc::{Call, supervisor::Request};
use nix::{
    errno::Errno,
    sys::signal::{SigSet, Signal, kill},
    unistd::Pid,
};
use tracing::{info, warn};

use crate::config::{Config, Service};

const LOG: &str = "supervisor.log";
/// What systemd sends when it has not heard of the worker in time. It waits for the guard's end then, and starts another one;
/// a worker that hangs would not hear that, and keep its place.
const WATCHDOG: Signal = Signal::SIGABRT;
/// Less than the 20 s for which systemd waits (TimeoutStopSec).
const STOP_PATIENCE: Duration = Duration::from_secs(15);
const RESTART_PAUSE: Duration = Duration::from_millis(500);
const DETACH_PATIENCE: Duration = Duration::from_secs(10);

/// Runs the worker until the guard is told to stop.
pub(crate) fn run(config: &Config) -> anyhow::Result<()> {
    let worker_pid = Arc::new(AtomicI32::new(0));
    let stopping = Arc::new(AtomicBool::new(false));
    let is_watched = Service::of_systemd().is_some_and(|service| service.watchdog.is_some());
    forward_signals(is_watched, Arc::clone(&worker_pid), Arc::clone(&stopping))?;
    loop {
        let mut worker = start_worker(config)?;
        let pid = i32::try_from(worker.id()).expect("a pid");
        worker_pid.store(pid, Ordering::SeqCst);
        if stopping.load(Ordering::SeqCst) {
            // Asked to between two workers, with nobody to pass it on to.
            tell(pid, Signal::SIGTERM);
        }
        let status = worker.wait()?;
        worker_pid.store(0, Ordering::SeqCst);
        if status.success() || stopping.load(Ordering::SeqCst) {
            return Ok(());
        }
        if status.code().is_some() {
            // It stopped by its own decision and has said why; starting it again would change nothing.
            bail!("the supervisor could not run");
        }
        warn!("The worker died ({status}); starting it again");
        thread::sleep(RESTART_PAUSE);
    }
}

/// Starts the guard in the background and returns when it answers.
pub(crate) fn detach(config: &Config) -> anyhow::Result<()> {
    fs::create_dir_all(&config.state_dir).context("could not make the state folder")?;
    let log = OpenOptions::new().append(true).create(true).open(config.state_dir.join(LOG))?;
    let mut guard = Command::new(env::current_exe()?)
        .args(config.as_flags())
        .arg("run")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        // A group of its own, so that Ctrl-C in this terminal does not reach it.
        .process_group(0)
        .spawn()?;
    let deadline = Instant::now() + DETACH_PATIENCE;
    while !answers(config) {
        if let Some(status) = guard.try_wait()? {
            bail!("{}", why_not(config, status));
        }
        if Instant::now() > deadline {
            bail!("the supervisor does not answer; see {}", config.state_dir.join(LOG).display());
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn why_not(config: &Config, status: ExitStatus) -> String {
    let log = fs::read_to_string(config.state_dir.join(LOG)).unwrap_or_default();
    let last = log.lines().rev().find(|line| !line.is_empty()).unwrap_or_default();
    format!("the supervisor ended ({status}): {last}")
}

fn answers(config: &Config) -> bool {
    let asked =
        UnixStream::connect(config.run_folder().supervisor_socket()).ok().and_then(|mut stream| {
            laptop_ipc::write_blocking(&mut stream, &Call::new(Request::Status)).ok()?;
            laptop_ipc::read_blocking::<laptop_ipc::supervisor::Reply>(&mut stream).ok()
        });
    asked.is_some()
}

fn start_worker(config: &Config) -> anyhow::Result<Child> {
    Command::new(env::current_exe()?)
        .args(config.as_flags())
        .args(["run", "--worker", &process::id().to_string()])
        .spawn()
        .context("could not start the worker")
}

fn forward_signals(
    is_watched: bool,
    worker: Arc<AtomicI32>,
    stopping: Arc<AtomicBool>,
) -> anyhow::Result<()> {
    let mut signals = SigSet::empty();
    signals.extend([Signal::SIGTERM, Signal::SIGINT]);
    // Where nobody cleans up behind the two, the worker does when the guard dies.
    if is_watched {
        signals.add(WATCHDOG);
    }
    // A terminal that closes is no reason to stop serving.
    let mut ignored = signals;
    ignored.add(Signal::SIGHUP);
    ignored.thread_block()?;
    thread::spawn(move || {
        while let Ok(signal) = signals.wait() {
            let passed_on = if signal == WATCHDOG {
                warn!("The worker hangs; killing it");
                Signal::SIGKILL
            } else {
                info!("Stopping ({signal})");
                Signal::SIGTERM
            };
            stopping.store(true, Ordering::SeqCst);
            match worker.load(Ordering::SeqCst) {
                0 => {}
                pid => {
                    tell(pid, passed_on);
                    let worker = Arc::clone(&worker);
                    thread::spawn(move || end_at_last(&worker, pid));
                }
            }
        }
    });
    Ok(())
}

/// Kills a worker that does not stop: one that hangs would outlive the guard, and keep its place.
fn end_at_last(worker: &AtomicI32, pid: i32) {
    thread::sleep(STOP_PATIENCE);
    if worker.load(Ordering::SeqCst) == pid {
        warn!("The worker does not stop; killing it");
        tell(pid, Signal::SIGKILL);
    }
}

fn tell(worker: i32, signal: Signal) {
    match kill(Pid::from_raw(worker), signal) {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(error) => warn!("Could not tell the worker: {error}"),
    }
}
