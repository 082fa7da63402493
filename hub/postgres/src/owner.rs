//! As whom Postgres runs: as ourselves, or as an unprivileged user when we are root.

use std::{
    fs,
    os::unix::fs::{DirBuilderExt, PermissionsExt, chown},
    path::Path,
    process::{Command, Stdio},
};

use nix::unistd::{Gid, Uid, User};

use crate::PostgresError;

/// The user that owns the database folder and the processes.
#[derive(Clone, Debug)]
pub(crate) enum Owner {
    Ourselves,
    Dropped { name: String, uid: Uid, gid: Gid },
}

impl Owner {
    pub(crate) fn choose() -> Result<Self, PostgresError> {
        if !Uid::effective().is_root() {
            return Ok(Self::Ourselves);
        }
        ["postgres", "nobody"]
            .into_iter()
            .find_map(|name| User::from_name(name).ok().flatten())
            .map(|user| Self::Dropped { name: user.name, uid: user.uid, gid: user.gid })
            .ok_or(PostgresError::NoOtherUser)
    }

    /// Makes a folder that only the owner (and root) can enter.
    pub(crate) fn own(&self, folder: &Path) -> Result<(), PostgresError> {
        let prepare = || {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
            fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
            match self {
                Self::Ourselves => Ok(()),
                Self::Dropped { uid, gid, .. } => {
                    chown(folder, Some(uid.as_raw()), Some(gid.as_raw()))
                }
            }
        };
        prepare().map_err(|source| PostgresError::Prepare { path: folder.to_owned(), source })?;
        self.can_enter(folder)
    }

    fn can_enter(&self, folder: &Path) -> Result<(), PostgresError> {
        let Self::Dropped { name, .. } = self else { return Ok(()) };
        let entered = self
            .command(Path::new("/bin/sh"), folder)
            .args(["-c", ":"])
            .stderr(Stdio::null())
            .status();
        match entered {
            Ok(status) if status.success() => Ok(()),
            _ => Err(PostgresError::Unreachable { user: name.clone(), path: folder.to_owned() }),
        }
    }

    /// Prepares `program` to run as the owner, in `folder`, with an empty environment.
    pub(crate) fn command(&self, program: &Path, folder: &Path) -> Command {
        self.with_identity(Command::new(program), folder)
    }

    /// As [`Owner::command`], for a program that must not outlive the thread that starts it.
    ///
    /// `setpriv` asks the kernel for SIGINT at the parent's death, which Postgres takes as "stop quickly". Without
    /// `setpriv` (it belongs to util-linux) a parent killed with -9 leaves Postgres behind.
    pub(crate) fn mortal_command(&self, program: &Path, folder: &Path) -> Command {
        if !Path::new(SETPRIV).is_file() {
            return self.command(program, folder);
        }
        let mut command = Command::new(SETPRIV);
        command.arg("--pdeathsig=INT");
        if let Self::Dropped { uid, gid, .. } = self {
            command.args([
                format!("--reuid={uid}"),
                format!("--regid={gid}"),
                "--clear-groups".to_owned(),
            ]);
        }
        command.arg("--").arg(program).env_clear().current_dir(folder);
        command
    }

    fn with_identity(&self, mut command: Command, folder: &Path) -> Command {
        use std::os::unix::process::CommandExt;

        command.env_clear().current_dir(folder);
        if let Self::Dropped { uid, gid, .. } = self {
            // Setting a uid also drops the supplementary groups of root.
            command.uid(uid.as_raw()).gid(gid.as_raw());
        }
        command
    }
}

const SETPRIV: &str = "/usr/bin/setpriv";
