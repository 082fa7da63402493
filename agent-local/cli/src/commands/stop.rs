//! `fairlead stop`: sessions end, the laptop is as it was, the daemon is gone.

use laptop_ipc::{daemon, supervisor};

use super::{Context, cleanup};
use crate::{errors::CliError, parts::unexpected};

pub(super) async fn run(context: &Context<'_>) -> Result<(), CliError> {
    let was_running = match context.parts.ask_daemon(daemon::Request::Stop).await {
        Ok(_) => true,
        Err(CliError::NoDaemon) => false,
        Err(error) => {
            context.output.warn(error.to_string());
            true
        }
    };
    // The supervisor insists, and knows about a daemon that does not answer.
    let insisted = match context.parts.ask_supervisor(supervisor::Request::Stop).await? {
        Some(supervisor::Answer::Stopped { was_running }) => was_running,
        Some(other) => return Err(unexpected(&other)),
        None => {
            cleanup::what_no_supervisor_took_back(context).await?;
            false
        }
    };
    context.output.say(if was_running || insisted {
        "Daemon stopped."
    } else {
        "The daemon was not running."
    });
    Ok(())
}
