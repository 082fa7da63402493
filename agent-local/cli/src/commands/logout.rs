//! `fairlead logout`: sessions first, then the sign-in.

use laptop_ipc::daemon::Request;

use super::{Context, login::tell_daemon};
use crate::errors::CliError;

pub(super) async fn run(context: &Context<'_>) -> Result<(), CliError> {
    let hub = context.hub()?;
    match context.parts.ask_daemon(Request::LeaveAll).await {
        Ok(_) | Err(CliError::NoDaemon) => {}
        Err(error) => context.output.warn(error.to_string()),
    }
    let ended = hub.sign_out().await;
    tell_daemon(context).await?;
    if let Err(error) = ended {
        // This laptop has forgotten its tokens in any case; the hub's copy expires.
        context.output.warn(format!("the hub was not told: {error}"));
    }
    context.output.say(format!("Signed out of {}.", hub.account().hub()));
    Ok(())
}
