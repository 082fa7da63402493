//! The sessions that should be, on disk, so that a daemon that was killed comes back with them.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use fairlead_model::{InterceptPort, Patterns, ServiceRef, SessionId};
use laptop_ipc::daemon::Teamspace;
use serde::{Deserialize, Serialize};

use crate::granted::Services;

/// One session with what it takes to go on with it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct DesiredSession {
    pub(crate) id: SessionId,
    pub(crate) teamspace: Teamspace,
    /// The last grant; worth nothing without the device key.
    pub(crate) grant: String,
    pub(crate) wish: Wish,
    /// Of a consume: a port that is taken may be another one on this laptop.
    #[serde(default)]
    pub(crate) may_remap: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Wish {
    Consume { patterns: Patterns, services: Services },
    Intercept { service: ServiceRef, ports: Vec<InterceptPort> },
}

/// The file.
#[derive(Debug)]
pub(crate) struct Desired {
    path: PathBuf,
    /// One writes at a time: two would write into one file beside it, and the older state could come last.
    writing: Mutex<()>,
}

impl Desired {
    pub(crate) const fn new(path: PathBuf) -> Self {
        Self { path, writing: Mutex::new(()) }
    }

    /// Reads what should be. A damaged file is as good as none: what lives at the hub all the same is ended there.
    pub(crate) fn read(&self) -> io::Result<Vec<DesiredSession>> {
        match fs::read(&self.path) {
            Ok(text) => Ok(serde_json::from_slice(&text).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// Writes down what should be at the moment at which it is this caller's turn.
    pub(crate) fn write(&self, sessions: impl FnOnce() -> Vec<DesiredSession>) -> io::Result<()> {
        let _turn = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let text = serde_json::to_vec_pretty(&sessions())?;
        let beside = self.path.with_extension("json.new");
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&beside, &self.path)
    }
}

#[cfg(test)]
mod tests {
    use fairlead_model::TeamspaceId;

    use super::*;

    fn session() -> DesiredSession {
        DesiredSession {
            id: SessionId::generate(),
            teamspace: Teamspace { id: TeamspaceId::generate(), name: "staging".to_owned() },
            grant: "ey".to_owned(),
            wish: Wish::Intercept {
                service: "shop/cart".parse().expect("valid"),
                ports: vec!["3000:80".parse().expect("valid")],
            },
            may_remap: false,
        }
    }

    #[test]
    fn what_should_be_survives_and_a_damaged_file_is_none() {
        let folder = tempfile::tempdir().expect("folder");
        let desired = Desired::new(folder.path().join("sessions.json"));
        assert_eq!(desired.read().expect("none"), []);
        let session = session();
        desired.write(|| vec![session.clone()]).expect("written");
        assert_eq!(desired.read().expect("read"), [session]);
        fs::write(folder.path().join("sessions.json"), "[{").expect("written");
        assert_eq!(desired.read().expect("forgiven"), []);
    }

    #[test]
    fn of_several_who_write_at_once_each_succeeds_and_the_newest_stays() {
        let folder = tempfile::tempdir().expect("folder");
        let desired = Desired::new(folder.path().join("sessions.json"));
        let sessions = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..8 {
                        sessions.lock().expect("whole").push(session());
                        desired.write(|| sessions.lock().expect("whole").clone()).expect("written");
                    }
                });
            }
        });
        assert_eq!(desired.read().expect("read"), *sessions.lock().expect("whole"));
    }
}
