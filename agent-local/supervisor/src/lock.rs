//! The lock that says "a supervisor runs". The kernel lets go of it with the process, however that ends.

use std::{
    fs::{self, DirBuilder, File, Permissions, TryLockError},
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::Path,
};

use anyhow::Context as _;

use crate::config::Config;

/// Takes the lock; `None` when another supervisor has it.
pub(crate) fn take(config: &Config) -> anyhow::Result<Option<File>> {
    // What stands is no secret: a user who is told to clean up shall see what for.
    make_folder(&config.state_dir, 0o755)?;
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
        .and_then(|()| fs::set_permissions(path, Permissions::from_mode(mode)))
        .with_context(|| format!("could not make {} (run as root?)", path.display()))
}
