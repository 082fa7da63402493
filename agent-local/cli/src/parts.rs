//! Talking to the other parts of Fairlead on this machine: the daemon and the supervisor.

use std::{
    env, io,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use laptop_ipc::{
    Failure, FailureKind, FrameError, RunFolder, daemon, lone_socket, peer_of, supervisor,
};
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
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The parts as this user reaches them.
#[derive(Debug, Clone)]
pub(crate) struct Parts {
    run_folder: RunFolder,
    /// Of a daemon that runs without a supervisor.
    lone_socket: PathBuf,
    uid: u32,
}

enum NotThere {
    /// No socket, or nobody behind it.
    Silent,
    Failed(Failure),
}

impl Parts {
    pub(crate) fn new(run_folder: RunFolder, state: &Path) -> Self {
        Self { run_folder, lone_socket: lone_socket(state), uid: Uid::current().as_raw() }
    }

    pub(crate) const fn run_folder(&self) -> &RunFolder {
        &self.run_folder
    }

    pub(crate) async fn ask_daemon(
        &self,
        request: daemon::Request,
    ) -> Result<daemon::Answer, CliError> {
        for socket in [&self.run_folder.daemon_socket(self.uid), &self.lone_socket] {
            let reply: Result<daemon::Reply, NotThere> = ask(socket, self.uid, &request).await;
            match reply {
                Ok(reply) => return Ok(reply?),
                Err(NotThere::Silent) => {}
                Err(NotThere::Failed(failure)) => return Err(failure.into()),
            }
        }
        Err(CliError::NoDaemon)
    }

    /// Asks the daemon; where none runs it starts one that needs no supervisor and ends when it is not needed.
    pub(crate) async fn ask_any_daemon(
        &self,
        folders: &Folders,
        request: daemon::Request,
    ) -> Result<daemon::Answer, CliError> {
        let deadline = Instant::now() + START_MAX;
        let mut started = None;
        loop {
            match self.ask_daemon(request.clone()).await {
                Err(CliError::NoDaemon) if Instant::now() < deadline => {}
                Err(CliError::NoDaemon) => return Err(silent(folders)),
                answer => return answer,
            }
            let is_ending = |child: &mut Child| child.try_wait().is_ok_and(|end| end.is_some());
            // One that another command started may have been faster; one that ends right now leaves room.
            if started.as_mut().is_none_or(is_ending) {
                started = Some(self.start_lone_daemon(folders)?);
            }
            sleep(LOOK_EVERY).await;
        }
    }

    fn start_lone_daemon(&self, folders: &Folders) -> Result<Child, CliError> {
        let program = env::current_exe().unwrap_or_default().with_file_name("fairlead-daemon");
        let mut command = Command::new(&program);
        command.arg("--alone").arg("--run-dir").arg(self.run_folder.path());
        command.arg("--config-dir").arg(&folders.config).arg("--state-dir").arg(&folders.state);
        command.env_clear().current_dir("/");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().map_err(|error| {
            CliError::new(
                FailureKind::Internal,
                format!("could not start {}: {error}", program.display()),
                "it is installed beside the fairlead command",
            )
        })
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
        let own = supervisor::DaemonFolders {
            config: folders.config.clone(),
            state: folders.state.clone(),
        };
        let was_running = match self.ask_supervisor(supervisor::Request::Start(own)).await? {
            Some(supervisor::Answer::Started { was_running, .. }) => was_running,
            Some(other) => return Err(unexpected(&other)),
            None => return Ok(None),
        };
        let deadline = Instant::now() + START_MAX;
        loop {
            // One that `fairlead run` started serves as well, and shall not end with its programs.
            match self.ask_daemon(daemon::Request::Stay).await {
                Ok(_) => return Ok(Some(was_running)),
                Err(CliError::NoDaemon) if Instant::now() < deadline => sleep(LOOK_EVERY).await,
                Err(CliError::NoDaemon) => return Err(silent(folders)),
                Err(error) => return Err(error),
            }
        }
    }
}

fn silent(folders: &Folders) -> CliError {
    let log = folders.state.join("daemon.log");
    CliError::new(
        FailureKind::Supervisor,
        "the daemon was started and does not answer",
        format!("its log says why: {}", log.display()),
    )
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
