//! The lock that says "a supervisor runs". The kernel lets go of it with the process, however that ends.

use std::{
    fs::{self, DirBuilder, File, Permissions, TryLockError},
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::Path,
    sync::mpsc,
    thread,
    time::Duration,
};

use anyhow::Context as _;
use tracing::info;

use crate::config::Config;

/// Takes the lock; `None` when another supervisor has it.
pub(crate) fn take(config: &Config) -> anyhow::Result<Option<File>> {
    let lock = open(config)?;
    Ok(try_lock(&lock)?.then_some(lock))
}

/// The same for whoever comes after another supervisor, and waits until that one has taken everything back. `None` is for
/// whoever ends then: a thread may still wait.
pub(crate) fn take_within(config: &Config, patience: Duration) -> anyhow::Result<Option<File>> {
    let lock = open(config)?;
    if try_lock(&lock)? {
        return Ok(Some(lock));
    }
    info!("Another supervisor is there; waiting {} s for its end", patience.as_secs());
    let (taken_tx, taken_rx) = mpsc::channel();
    thread::spawn(move || taken_tx.send(lock.lock().map(|()| lock)));
    match taken_rx.recv_timeout(patience) {
        Ok(lock) => Ok(Some(lock?)),
        Err(_) => Ok(None),
    }
}

fn try_lock(lock: &File) -> anyhow::Result<bool> {
    match lock.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error.into()),
    }
}

fn open(config: &Config) -> anyhow::Result<File> {
    // What stands is no secret: a user who is told to clean up shall see what for.
    make_folder(&config.state_dir, 0o755)?;
    make_folder(config.run_folder().path(), 0o755)?;
    let path = config.run_folder().supervisor_lock();
    File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .with_context(|| format!("could not open {} (run as root?)", path.display()))
}

fn make_folder(path: &Path, mode: u32) -> anyhow::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .and_then(|()| fs::set_permissions(path, Permissions::from_mode(mode)))
        .with_context(|| format!("could not make {} (run as root?)", path.display()))
}
