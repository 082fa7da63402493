//! Where the sockets are: `/run/fairlead`, one folder per user in it. A daemon that no supervisor started has its own
//! beside its state, since nobody made it a folder there.

use std::path::{Path, PathBuf};

/// The folder of everything that does not outlive the machine's running.
#[derive(Debug, Clone)]
pub struct RunFolder(PathBuf);

impl RunFolder {
    pub const DEFAULT: &str = "/run/fairlead";

    #[must_use]
    pub const fn new(path: PathBuf) -> Self {
        Self(path)
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    #[must_use]
    pub fn supervisor_socket(&self) -> PathBuf {
        self.0.join("supervisor.sock")
    }

    /// Held while a supervisor runs; so a socket that is there without it is stale.
    #[must_use]
    pub fn supervisor_lock(&self) -> PathBuf {
        self.0.join("supervisor.lock")
    }

    /// Made by the supervisor, owned by the user, closed to everybody else.
    #[must_use]
    pub fn of_user(&self, uid: u32) -> PathBuf {
        self.0.join("users").join(uid.to_string())
    }

    #[must_use]
    pub fn daemon_socket(&self, uid: u32) -> PathBuf {
        self.of_user(uid).join("daemon.sock")
    }

    #[must_use]
    pub fn daemon_lock(&self, uid: u32) -> PathBuf {
        self.of_user(uid).join("daemon.lock")
    }
}

/// Returns the socket of a daemon that runs without a supervisor.
#[must_use]
pub fn lone_socket(state: &Path) -> PathBuf {
    state.join("daemon.sock")
}

/// Returns what any daemon of these files holds: two of them would end each other's sessions.
#[must_use]
pub fn files_lock(state: &Path) -> PathBuf {
    state.join("daemon.lock")
}
