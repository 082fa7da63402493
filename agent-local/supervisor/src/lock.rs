//! The lock that says "a supervisor runs". The kernel lets go of it with the process, however that ends.

use std::{
    fs::{DirBuilder, File, TryLockError},
    os::unix::fs::DirBuilderExt as _,
    path::Path,
};

use anyhow::Context as _;

use crate::config::Config;

/// Takes the lock; `None` when another supervisor has it.
pub(crate) fn take(config: &Config) -> anyhow::Result<Option<File>> {
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
