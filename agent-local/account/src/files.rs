//! Files of the owner's own: mode 0600, whole or not at all.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use serde::{Serialize, de::DeserializeOwned};

use crate::AccountError;

const LOCK_PATIENCE: Duration = Duration::from_secs(30);

/// Reads JSON; `None` when there is no such file.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, AccountError> {
    let Some(bytes) = read(path)? else { return Ok(None) };
    let damaged = |error: serde_json::Error| AccountError::Damaged {
        path: path.to_owned(),
        why: error.to_string(),
    };
    serde_json::from_slice(&bytes).map(Some).map_err(damaged)
}

pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>, AccountError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(AccountError::Read { path: path.to_owned(), source }),
    }
}

pub(crate) fn write_json(
    path: &Path,
    value: &(impl Serialize + ?Sized),
) -> Result<(), AccountError> {
    let bytes = serde_json::to_vec_pretty(value).expect("our values are plain JSON");
    write(path, &bytes)
}

/// Files written by this process: two threads that write one file each have their own beside it.
static WRITTEN: AtomicU64 = AtomicU64::new(0);

/// Writes beside the file and renames over it, so that a crash leaves the old or the new one.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), AccountError> {
    let failed = |source| AccountError::Write { path: path.to_owned(), source };
    let folder = path.parent().expect("a file is in a folder");
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let turn = WRITTEN.fetch_add(1, Ordering::Relaxed);
    let beside = path.with_file_name(format!(".{name}.{}.{turn}", std::process::id()));
    let written = write_new(&beside, bytes).and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        // The file that could not be written is of no use to anybody.
        drop(fs::remove_file(&beside));
    }
    written.map_err(failed)
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

pub(crate) fn remove(path: &Path) -> Result<(), AccountError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(AccountError::Write { path: path.to_owned(), source: error })
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Waits for the lock that the command and the daemon share. Blocks: call it where blocking is allowed.
pub(crate) fn lock(path: &Path) -> Result<File, AccountError> {
    let failed = |source| AccountError::Write { path: path.to_owned(), source };
    let folder = path.parent().expect("a file is in a folder");
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(failed)?;
    let deadline = Instant::now() + LOCK_PATIENCE;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(source)) => return Err(failed(source)),
            Err(TryLockError::WouldBlock) if Instant::now() > deadline => {
                return Err(AccountError::Locked { path: path.to_owned() });
            }
            Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(20)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_is_written_is_the_owners_only_and_leaves_no_other_file() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("deep").join("tokens.json");
        write_json(&path, "secret").expect("written");
        assert_eq!(read_json::<String>(&path).expect("read").as_deref(), Some("secret"));
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().expect("folder"))), (0o600, 0o700));
        assert_eq!(fs::read_dir(path.parent().expect("folder")).expect("read").count(), 1);
    }

    #[test]
    fn a_damaged_file_is_named() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("account.json");
        fs::write(&path, "{").expect("written");
        let error = read_json::<String>(&path).expect_err("damaged").to_string();
        assert!(error.contains("account.json"), "{error}");
    }
}
