//! The hosts file at its path: our section is written and removed, and every other line is left as it is.
//!
//! How bytes get into the file is in `whole_file.rs`, what the section says in `hosts.rs`.

use std::{
    fs::{self, File, Metadata},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use crate::{
    hosts::{self, HostEntry, with_section, without_section},
    lease::wait_for_writers,
    whole_file::{FILE_MAX_BYTES, Replaced, remove_leftover, replace},
};

/// Somebody else may write at the same moment; more often than this is a fight that we leave.
const ATTEMPTS: usize = 10;

#[derive(Debug, thiserror::Error)]
pub enum HostsError {
    #[error("could not read {path}")]
    Read { path: PathBuf, source: io::Error },
    #[error("{path} is larger than {FILE_MAX_BYTES} bytes")]
    TooLarge { path: PathBuf },
    #[error("could not write {path}: the disk is full (nothing was changed)")]
    DiskFull { path: PathBuf },
    #[error("could not write {path}: it is read-only or immutable (nothing was changed)")]
    ReadOnly { path: PathBuf },
    #[error("could not write {path} (nothing was changed)")]
    Write { path: PathBuf, source: io::Error },
    #[error("another program keeps writing {path} (nothing was changed)")]
    Contested { path: PathBuf },
}

/// The hosts file at its path.
#[derive(Debug, Clone)]
pub struct HostsFile {
    path: PathBuf,
}

impl HostsFile {
    #[must_use]
    pub const fn new(path: PathBuf) -> Self {
        Self { path }
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes our section say exactly `entries`.
    pub fn write_section(&self, entries: &[HostEntry]) -> Result<(), HostsError> {
        self.change(|file| with_section(file, entries))
    }

    /// Removes every line of ours.
    pub fn remove_section(&self) -> Result<(), HostsError> {
        self.change(without_section)
    }

    /// Says whether our section says exactly `entries`, and no line elsewhere is ours.
    pub fn says(&self, entries: &[HostEntry]) -> Result<bool, HostsError> {
        let (file, _) = self.read(&self.path)?;
        Ok(with_section(&file, entries) == file)
    }

    /// Says whether any line of it is ours.
    pub fn has_section(&self) -> Result<bool, HostsError> {
        Ok(hosts::has_section(&self.read(&self.path)?.0))
    }

    fn change(&self, make: impl Fn(&[u8]) -> Vec<u8>) -> Result<(), HostsError> {
        // A link is followed, or the rename would replace it by a file.
        let path = fs::canonicalize(&self.path).map_err(|source| self.unreadable(source))?;
        for _ in 0..ATTEMPTS {
            let (old, seen) = self.read(&path)?;
            if make(&old) == old {
                return remove_leftover(&path).map_err(|source| self.unwritable(source));
            }
            match replace(&path, &seen, &old, &make) {
                Ok(Replaced::Done) => return Ok(()),
                Ok(Replaced::ChangedMeanwhile) => {}
                Err(source) => return Err(self.unwritable(source)),
            }
        }
        Err(HostsError::Contested { path: self.path.clone() })
    }

    fn read(&self, path: &Path) -> Result<(Vec<u8>, Metadata), HostsError> {
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(|source| self.unreadable(source))?;
        // Whoever empties it first and then writes it anew must not be read in between.
        wait_for_writers(&file);
        let seen = file.metadata().map_err(|source| self.unreadable(source))?;
        file.take(FILE_MAX_BYTES + 1)
            .read_to_end(&mut bytes)
            .map_err(|source| self.unreadable(source))?;
        if bytes.len() as u64 > FILE_MAX_BYTES {
            return Err(HostsError::TooLarge { path: self.path.clone() });
        }
        Ok((bytes, seen))
    }

    fn unreadable(&self, source: io::Error) -> HostsError {
        HostsError::Read { path: self.path.clone(), source }
    }

    fn unwritable(&self, source: io::Error) -> HostsError {
        let path = self.path.clone();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                HostsError::DiskFull { path }
            }
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
                HostsError::ReadOnly { path }
            }
            _ => HostsError::Write { path, source },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::Permissions,
        net::Ipv4Addr,
        os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    };

    use super::*;

    const PLAIN: &str = "127.0.0.1 localhost\n";

    fn hosts_file() -> (tempfile::TempDir, HostsFile) {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("hosts");
        fs::write(&path, PLAIN).expect("written");
        (folder, HostsFile::new(path))
    }

    fn cart() -> HostEntry {
        HostEntry::new(Ipv4Addr::new(127, 72, 1, 2), ["cart.shop".to_owned()]).expect("valid")
    }

    #[test]
    fn owner_mode_and_attributes_survive_and_no_other_file_is_left() {
        let (folder, hosts) = hosts_file();
        fs::set_permissions(hosts.path(), Permissions::from_mode(0o664)).expect("mode");
        let before = fs::metadata(hosts.path()).expect("there");
        hosts.write_section(&[cart()]).expect("written");
        let after = fs::metadata(hosts.path()).expect("there");
        assert_eq!((after.mode(), after.uid()), (before.mode(), before.uid()));
        assert_ne!(after.ino(), before.ino(), "it was renamed over");
        assert_eq!(fs::read_dir(folder.path()).expect("folder").count(), 1);

        hosts.remove_section().expect("written");
        assert_eq!(fs::read_to_string(hosts.path()).expect("text"), PLAIN);
    }

    #[test]
    fn the_same_section_again_writes_nothing() {
        let (_folder, hosts) = hosts_file();
        hosts.write_section(&[cart()]).expect("written");
        let before = fs::metadata(hosts.path()).expect("there");
        hosts.write_section(&[cart()]).expect("nothing to do");
        assert_eq!(before.ino(), fs::metadata(hosts.path()).expect("there").ino());
    }

    #[test]
    fn a_link_stays_a_link() {
        let (folder, hosts) = hosts_file();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(hosts.path(), &link).expect("link");
        HostsFile::new(link.clone()).write_section(&[cart()]).expect("written");
        assert!(fs::symlink_metadata(&link).expect("there").is_symlink());
        assert!(fs::read_to_string(hosts.path()).expect("text").contains("cart.shop"));
    }

    #[test]
    fn a_leftover_of_a_killed_writer_is_no_obstacle() {
        let (folder, hosts) = hosts_file();
        fs::write(folder.path().join(".hosts.fairlead"), "half").expect("written");
        hosts.write_section(&[cart()]).expect("written");
        assert_eq!(fs::read_dir(folder.path()).expect("folder").count(), 1);
    }

    #[test]
    fn a_leftover_of_a_writer_that_changed_nothing_is_removed_too() {
        let (folder, hosts) = hosts_file();
        fs::write(folder.path().join(".hosts.fairlead"), "half").expect("written");
        hosts.remove_section().expect("nothing to change");
        assert_eq!(fs::read_dir(folder.path()).expect("folder").count(), 1);
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = HostsFile::new("/nonexistent/hosts".into()).remove_section().expect_err("none");
        assert!(error.to_string().contains("/nonexistent/hosts"), "{error}");
    }
}
