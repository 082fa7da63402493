//! `fairlead daemon run`: the daemon in this terminal, for troubleshooting.

use std::os::unix::process::CommandExt as _;

use laptop_ipc::{FailureKind, supervisor};

use super::{Context, start};
use crate::errors::CliError;

pub(super) async fn run(context: &Context<'_>) -> Result<(), CliError> {
    if context.parts.status().await.is_ok() {
        return Err(CliError::new(
            FailureKind::Conflict,
            "the daemon is running in the background",
            "end it first: fairlead stop",
        ));
    }
    let prepared = context.parts.ask_supervisor(supervisor::Request::Prepare).await?;
    if prepared.is_none() {
        return Err(start::gone(&start::supervisor()));
    }
    let program = start::beside("fairlead-daemon");
    // From here on this process is the daemon: the terminal's Ctrl-C reaches it, and its end is ours.
    let error = std::process::Command::new(&program)
        .arg("--foreground")
        .arg("--run-dir")
        .arg(context.parts.run_folder().path())
        .arg("--config-dir")
        .arg(&context.folders.config)
        .arg("--state-dir")
        .arg(&context.folders.state)
        .exec();
    Err(CliError::new(
        FailureKind::Internal,
        format!("could not run {}: {error}", program.display()),
        "it is installed beside this command",
    ))
}
