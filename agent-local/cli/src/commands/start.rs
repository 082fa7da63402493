//! `fairlead start`: the daemon, and a supervisor when none runs.

use std::{
    env,
    io::{self, IsTerminal as _},
    path::PathBuf,
    process::Stdio,
};

use laptop_ipc::FailureKind;
use nix::unistd::Uid;
use tokio::process::Command;

use super::{Context, login::tell_daemon};
use crate::{config, errors::CliError};

pub(super) async fn run(context: &Context<'_>) -> Result<(), CliError> {
    // The daemon does not see this shell: the supervisor starts it.
    let has_other_proxies = context.accounts.keep_proxies(&config::proxies()?)?;
    let was_running = match context.parts.start_daemon(&context.folders).await? {
        Some(was_running) => was_running,
        None => {
            start_supervisor(context).await?;
            context
                .parts
                .start_daemon(&context.folders)
                .await?
                .ok_or_else(|| gone(&supervisor()))?
        }
    };
    context.output.say(if was_running {
        "The daemon is running already."
    } else {
        "Daemon started."
    });
    if was_running && has_other_proxies {
        tell_daemon(context).await?;
    }
    if context.accounts.current().is_err() {
        context.output.say("Next: fairlead login https://YOUR-HUB");
    }
    Ok(())
}

/// Starts the supervisor as root: directly, or by sudo when somebody is there to type a password.
async fn start_supervisor(context: &Context<'_>) -> Result<(), CliError> {
    let program = supervisor();
    let run_dir = context.parts.run_folder().path();
    let mut command = if Uid::effective().is_root() {
        Command::new(&program)
    } else if io::stdin().is_terminal() {
        context.output.say(format!(
            "No supervisor is running; starting it with sudo: {} run --detach",
            program.display()
        ));
        let mut sudo = Command::new("sudo");
        sudo.arg("--").arg(&program);
        sudo
    } else {
        return Err(gone(&program));
    };
    command.arg("--run-dir").arg(run_dir).args(["run", "--detach"]).stdout(Stdio::null());
    let status = command.status().await.map_err(|error| {
        CliError::new(
            FailureKind::Supervisor,
            format!("could not start the supervisor: {error}"),
            how_to(&program),
        )
    })?;
    if status.success() { Ok(()) } else { Err(gone(&program)) }
}

pub(super) fn gone(program: &std::path::Path) -> CliError {
    CliError::new(FailureKind::Supervisor, "no supervisor is running", how_to(program))
}

fn how_to(program: &std::path::Path) -> String {
    format!("it needs root once: sudo {} run --detach", program.display())
}

/// Returns the supervisor's program, which is installed beside this one.
pub(super) fn supervisor() -> PathBuf {
    beside("fairlead-supervisor")
}

pub(super) fn beside(program: &str) -> PathBuf {
    let ours = env::current_exe().unwrap_or_default();
    ours.with_file_name(program)
}
