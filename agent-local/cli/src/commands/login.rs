//! `fairlead login`: the browser signs in, this laptop becomes a device.

use std::path::Path;

use laptop_account::{HubUrl, LoginAttempt, SignedIn};
use laptop_ipc::{FailureKind, daemon::Request};

use super::Context;
use crate::{config, errors::CliError};

pub(super) async fn run(
    context: &Context<'_>,
    hub: Option<HubUrl>,
    ca_file: Option<&Path>,
    open_browser: bool,
) -> Result<(), CliError> {
    let hub = match hub {
        Some(hub) => hub,
        None => context.accounts.last_hub()?.ok_or_else(no_hub)?,
    };
    let attempt = LoginAttempt::begin(&context.accounts, &hub, ca_file, config::proxies()?).await?;
    attempt.check_hub().await?;
    let url = attempt.url();
    if open_browser && webbrowser::open(url.as_str()).is_ok() {
        context.output.say(format!("Sign in in the browser. If it does not open, visit:\n  {url}"));
    } else {
        context.output.say(format!("Open this address in a browser on this machine:\n  {url}"));
    }
    context
        .output
        .say(format!("The hub asks there whether it was you: code {}.", attempt.code_for_people()));
    let signed_in = tokio::select! {
        finished = attempt.finish(&context.accounts) => finished?,
        _ = tokio::signal::ctrl_c() => return Err(CliError::Interrupted),
    };
    tell(context, &hub, &signed_in);
    tell_daemon(context).await
}

fn no_hub() -> CliError {
    CliError::new(
        FailureKind::Input,
        "which hub?",
        "name it once: fairlead login https://hub.example.com",
    )
}

fn tell(context: &Context<'_>, hub: &HubUrl, signed_in: &SignedIn) {
    let me = &signed_in.me;
    context
        .output
        .say(format!("Signed in to {hub} as {} ({}).", me.user.email, me.organization.name));
}

/// A daemon that runs connects at once; one that does not will when it starts.
pub(super) async fn tell_daemon(context: &Context<'_>) -> Result<(), CliError> {
    match context.parts.ask_daemon(Request::AccountChanged).await {
        Ok(_) | Err(CliError::NoDaemon) => Ok(()),
        Err(error) => Err(error),
    }
}
