//! Talking to the other parts of Fairlead on this machine: the daemon and the supervisor.

use std::{
    io,
    path::Path,
    time::{Duration, Instant},
};

use laptop_ipc::{Failure, FailureKind, FrameError, RunFolder, daemon, peer_of, supervisor};
use nix::unistd::Uid;
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    net::UnixStream,
    time::{sleep, timeout},
};

use crate::{config::Folders, errors::CliError};

/// The longest honest answer: a session that begins at a slow hub.
const ANSWER_MAX: Duration = Duration::from_secs(60);
const START_MAX: Duration = Duration::from_secs(10);

/// The parts as this user reaches them.
#[derive(Debug, Clone)]
pub(crate) struct Parts {
    run_folder: RunFolder,
    uid: u32,
}

enum NotThere {
    /// No socket, or nobody behind it.
    Silent,
    Failed(Failure),
}

impl Parts {
    pub(crate) fn new(run_folder: RunFolder) -> Self {
        Self { run_folder, uid: Uid::current().as_raw() }
    }

    pub(crate) const fn run_folder(&self) -> &RunFolder {
        &self.run_folder
    }

    pub(crate) async fn ask_daemon(
        &self,
        request: daemon::Request,
    ) -> Result<daemon::Answer, CliError> {
        let socket = self.run_folder.daemon_socket(self.uid);
        let reply: Result<daemon::Reply, NotThere> = ask(&socket, self.uid, request).await;
        match reply {
            Ok(reply) => Ok(reply?),
            Err(NotThere::Silent) => Err(CliError::NoDaemon),
            Err(NotThere::Failed(failure)) => Err(failure.into()),
        }
    }

    /// Asks the supervisor; `None` when none runs.
    pub(crate) async fn ask_supervisor(
        &self,
        request: supervisor::Request,
    ) -> Result<Option<supervisor::Answer>, CliError> {
        let socket = self.run_folder.supervisor_socket();
        let reply: Result<supervisor::Reply, NotThere> = ask(&socket, 0, request).await;
        match reply {
            Ok(reply) => Ok(Some(reply?)),
            Err(NotThere::Silent) => Ok(None),
            Err(NotThere::Failed(failure)) => Err(failure.into()),
        }
    }

    pub(crate) async fn status(&self) -> Result<daemon::Status, CliError> {
        match self.ask_daemon(daemon::Request::Status).await? {
            daemon::Answer::Status(status) => Ok(status),
            other => Err(unexpected(&other)),
        }
    }

    /// Has the supervisor start the daemon, and waits until the daemon answers. `None` without a supervisor.
    pub(crate) async fn start_daemon(&self, folders: &Folders) -> Result<Option<bool>, CliError> {
        let log = folders.state.join("daemon.log");
        let folders = supervisor::DaemonFolders {
            config: folders.config.clone(),
            state: folders.state.clone(),
        };
        let was_running = match self.ask_supervisor(supervisor::Request::Start(folders)).await? {
            Some(supervisor::Answer::Started { was_running, .. }) => was_running,
            Some(other) => return Err(unexpected(&other)),
            None => return Ok(None),
        };
        let deadline = Instant::now() + START_MAX;
        loop {
            match self.status().await {
                Ok(_) => return Ok(Some(was_running)),
                Err(CliError::NoDaemon) if Instant::now() < deadline => {
                    sleep(Duration::from_millis(20)).await;
                }
                Err(CliError::NoDaemon) => {
                    return Err(CliError::new(
                        FailureKind::Supervisor,
                        "the daemon was started and does not answer",
                        format!("its log says why: {}", log.display()),
                    ));
                }
                Err(error) => return Err(error),
            }
        }
    }
}

async fn ask<Q, A>(socket: &Path, owner: u32, request: Q) -> Result<A, NotThere>
where
    Q: Serialize + Sync,
    A: DeserializeOwned,
{
    let mut stream = match UnixStream::connect(socket).await {
        Ok(stream) => stream,
        Err(error) => {
            return Err(match error.kind() {
                // A socket nobody listens on is what a killed process leaves.
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => NotThere::Silent,
                _ => failed(format!("could not connect to {}: {error}", socket.display())),
            });
        }
    };
    let peer = peer_of(&stream).map_err(|error| failed(error.to_string()))?;
    if peer.uid != owner && peer.uid != 0 {
        return Err(failed(format!(
            "{} is served by uid {}, who should not be there",
            socket.display(),
            peer.uid
        )));
    }
    match timeout(ANSWER_MAX, laptop_ipc::ask(&mut stream, request)).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(FrameError::Closed)) => Err(NotThere::Silent),
        Ok(Err(error)) => Err(failed(error.to_string())),
        Err(_) => Err(failed(format!("{} does not answer", socket.display()))),
    }
}

fn failed(message: String) -> NotThere {
    let hint = "restart the parts: fairlead stop, then fairlead start";
    NotThere::Failed(Failure::new(FailureKind::Supervisor, message).hint(hint))
}

/// An answer to another question: the parts are of different versions.
pub(crate) fn unexpected(answer: &impl std::fmt::Debug) -> CliError {
    CliError::new(
        FailureKind::Version,
        format!("unexpected answer: {answer:?}"),
        "restart the parts: fairlead stop, then fairlead start",
    )
}
