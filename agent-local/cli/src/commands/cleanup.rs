//! `fairlead cleanup`: takes back whatever stands on this laptop.

use std::process::Stdio;

use laptop_ipc::{FailureKind, daemon, supervisor};
use nix::unistd::Uid;
use serde::Serialize;
use tokio::process::Command;

use super::{Context, start};
use crate::{errors::CliError, output::Shown, parts::unexpected};

#[derive(Serialize)]
#[serde(transparent)]
struct Residue(Vec<String>);

impl Shown for Residue {
    fn to_text(&self) -> String {
        if self.0.is_empty() {
            "Nothing of Fairlead is on this laptop.\n".to_owned()
        } else {
            self.0.join("\n")
        }
    }
}

pub(super) async fn run(context: &Context<'_>, dry_run: bool) -> Result<(), CliError> {
    // Looked at first: leaving the sessions takes most of it back already.
    let found = supervised(context, true).await?;
    if !dry_run {
        leave_all(context).await;
    }
    let Some(found) = found else { return without_supervisor(context, dry_run).await };
    if !dry_run {
        supervised(context, false).await?;
    }
    show(context, found, dry_run)
}

/// Lists what was found, and says what became of it.
fn show(context: &Context<'_>, found: Vec<String>, dry_run: bool) -> Result<(), CliError> {
    if !found.is_empty() {
        context.output.say(if dry_run { "`fairlead cleanup` takes back:" } else { "Taken back:" });
    }
    context.output.show(&Residue(found))
}

async fn leave_all(context: &Context<'_>) {
    match context.parts.ask_daemon(daemon::Request::LeaveAll).await {
        Ok(_) | Err(CliError::NoDaemon) => {}
        // The names and redirects go in any case; the hub's side ends when it names what nobody holds.
        Err(error) => context.output.warn(error.to_string()),
    }
}

async fn supervised(context: &Context<'_>, dry_run: bool) -> Result<Option<Vec<String>>, CliError> {
    match context.parts.ask_supervisor(supervisor::Request::Cleanup { dry_run }).await? {
        Some(supervisor::Answer::Residue { found }) => Ok(Some(found)),
        Some(other) => Err(unexpected(&other)),
        None => Ok(None),
    }
}

/// Lists what stands, as far as this user may see it.
pub(super) async fn what_stands(context: &Context<'_>) -> Result<Vec<String>, CliError> {
    if let Some(found) = supervised(context, true).await? {
        return Ok(found);
    }
    let looked = supervisor_program(context).arg("residue").output().await;
    match looked {
        Ok(said) if said.status.success() => {
            Ok(String::from_utf8_lossy(&said.stdout).lines().map(str::to_owned).collect())
        }
        Ok(_) | Err(_) => Err(CliError::new(
            FailureKind::Cleanup,
            "what stands on this laptop cannot be seen",
            "sudo fairlead cleanup --dry-run",
        )),
    }
}

/// Takes back what may stand without a supervisor, as `cleanup` does; where nothing does there is nothing to say.
pub(super) async fn what_no_supervisor_took_back(context: &Context<'_>) -> Result<(), CliError> {
    let is_clean = what_stands(context).await.is_ok_and(|standing| standing.is_empty());
    if is_clean { Ok(()) } else { without_supervisor(context, false).await }
}

/// The supervisor's own program does it as root, from the journal alone.
async fn without_supervisor(context: &Context<'_>, dry_run: bool) -> Result<(), CliError> {
    let program = start::supervisor();
    let flags = if dry_run { &["cleanup", "--dry-run"][..] } else { &["cleanup"] };
    if !Uid::effective().is_root() {
        return Err(CliError::new(
            FailureKind::Cleanup,
            "no supervisor is running, and only root can look at what it may have left",
            format!("sudo {} {}", program.display(), flags.join(" ")),
        ));
    }
    let output = supervisor_program(context).args(flags).stderr(Stdio::inherit()).output().await;
    match output {
        Ok(output) if output.status.success() => {
            let found = String::from_utf8_lossy(&output.stdout);
            show(context, found.lines().map(str::to_owned).collect(), dry_run)
        }
        Ok(_) | Err(_) => Err(CliError::new(
            FailureKind::Cleanup,
            "not everything could be taken back",
            format!("see what remains: sudo {} cleanup --dry-run", program.display()),
        )),
    }
}

fn supervisor_program(context: &Context<'_>) -> Command {
    let mut program = Command::new(start::supervisor());
    program.arg("--run-dir").arg(context.parts.run_folder().path());
    program
}
