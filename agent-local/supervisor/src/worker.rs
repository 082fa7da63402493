//! The process that does the work: takes the lock, cleans up after a run that was killed, serves its socket.

use std::{
    fs::{self, DirBuilder, File, Permissions, TryLockError},
    os::unix::{
        fs::{DirBuilderExt as _, PermissionsExt as _},
        net::{UnixListener, UnixStream},
    },
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, bail};
use laptop_footprint::Footprint;
use nix::{
    sys::{
        prctl::set_pdeathsig,
        signal::{SigSet, Signal},
    },
    unistd::getppid,
};
use tracing::{info, warn};

use crate::{config::Config, conversation, machine::Machine};

/// Every user has a handful of conversations; more are refused at once.
const CONVERSATIONS_MAX: usize = 64;

/// Sent by the kernel when the guard dies. The daemons go on without names until another supervisor is there.
const GUARD_DIED: Signal = Signal::SIGUSR1;

pub(crate) fn run(config: &Config) -> anyhow::Result<()> {
    let guard = getppid();
    let signals = block_signals()?;
    set_pdeathsig(GUARD_DIED)?;
    if getppid() != guard {
        bail!("the guard died while the worker began");
    }
    let Some(_lock) = take_lock(config)? else {
        bail!("a supervisor is running already on {}", config.run_folder().path().display());
    };
    let footprint = Footprint::open(&config.footprint())
        .context("could not take back what an earlier run left")?;
    let machine = Arc::new(Machine::new(config, footprint)?);
    serve(config, &machine)?;
    info!("Serving on {}", config.run_folder().supervisor_socket().display());

    match signals.wait()? {
        GUARD_DIED => {
            warn!("The guard was killed; taking everything back");
            machine.take_back();
        }
        signal => {
            info!("Stopping ({signal})");
            machine.stop();
        }
    }
    // A stale socket would only make the next caller wonder.
    drop(fs::remove_file(config.run_folder().supervisor_socket()));
    Ok(())
}

/// Takes the lock that says "a supervisor runs"; `None` when another one does.
pub(crate) fn take_lock(config: &Config) -> anyhow::Result<Option<File>> {
    make_folder(&config.state_dir, 0o700)?;
    make_folder(config.run_folder().path(), 0o755)?;
    let path = config.run_folder().supervisor_lock();
    let lock = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .with_context(|| format!("could not open {} (run as root?)", path.display()))?;
    match lock.try_lock() {
        Ok(()) => Ok(Some(lock)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error.into()),
    }
}

fn make_folder(path: &Path, mode: u32) -> anyhow::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .with_context(|| format!("could not make {} (run as root?)", path.display()))
}

fn block_signals() -> anyhow::Result<SigSet> {
    let mut signals = SigSet::empty();
    signals.extend([Signal::SIGTERM, Signal::SIGINT, GUARD_DIED]);
    let mut blocked = signals;
    blocked.add(Signal::SIGHUP);
    // Before the first thread, so that every one inherits it and only `wait` sees them.
    blocked.thread_block()?;
    Ok(signals)
}

fn serve(config: &Config, machine: &Arc<Machine>) -> anyhow::Result<()> {
    let socket = config.run_folder().supervisor_socket();
    // We hold the lock: whatever stands here is stale.
    drop(fs::remove_file(&socket));
    let listener = UnixListener::bind(&socket)
        .with_context(|| format!("could not listen on {}", socket.display()))?;
    // Everybody may ask; the kernel says who asks, and each gets only their own.
    fs::set_permissions(&socket, Permissions::from_mode(0o666))?;
    let machine = Arc::clone(machine);
    thread::spawn(move || accept(&listener, &machine));
    Ok(())
}

fn accept(listener: &UnixListener, machine: &Arc<Machine>) {
    let open = Arc::new(AtomicUsize::new(0));
    loop {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, most likely: somebody must close one first.
                warn!("Could not accept: {error}");
                thread::sleep(Duration::from_millis(100));
                continue;
            }
        };
        if open.load(Ordering::SeqCst) >= CONVERSATIONS_MAX {
            continue;
        }
        open.fetch_add(1, Ordering::SeqCst);
        begin(stream, Arc::clone(machine), Arc::clone(&open));
    }
}

fn begin(stream: UnixStream, machine: Arc<Machine>, open: Arc<AtomicUsize>) {
    thread::spawn(move || {
        conversation::hold(stream, &machine);
        open.fetch_sub(1, Ordering::SeqCst);
    });
}
