//! `fairlead login`: a browser signs in, here or elsewhere, and this laptop becomes a device.

use std::path::Path;

use laptop_account::{DeviceLogin, HubUrl, LoginAttempt, SignedIn};
use laptop_ipc::{FailureKind, daemon::Request};

use super::Context;
use crate::{config, errors::CliError};

/// Where the browser is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Here, and we open it.
    Open,
    /// Here, and somebody else opens it.
    Print,
    /// At another machine.
    Elsewhere,
}

pub(super) async fn run(
    context: &Context<'_>,
    hub: Option<HubUrl>,
    ca_file: Option<&Path>,
    way: Way,
) -> Result<(), CliError> {
    let hub = match hub {
        Some(hub) => hub,
        None => context.accounts.last_hub()?.ok_or_else(no_hub)?,
    };
    if way == Way::Elsewhere || (way == Way::Open && !config::has_display()) {
        return elsewhere(context, &hub, ca_file).await;
    }
    let attempt = LoginAttempt::begin(&context.accounts, &hub, ca_file, config::proxies()?).await?;
    attempt.check_hub().await?;
    let url = attempt.url();
    if way == Way::Open && webbrowser::open(url.as_str()).is_ok() {
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

/// Signs in where this machine has no browser.
async fn elsewhere(
    context: &Context<'_>,
    hub: &HubUrl,
    ca_file: Option<&Path>,
) -> Result<(), CliError> {
    let attempt = DeviceLogin::begin(&context.accounts, hub, ca_file, config::proxies()?).await?;
    let (page, letters, page_with_letters) = attempt.where_to_go();
    context.output.say(format!(
        "Open this page in a browser of any machine:\n  {page}\nand type there:\n  {letters}\nOr open: \
         {page_with_letters}\nThe hub asks there whether it was you: code {}. Waiting …",
        attempt.code_for_people()
    ));
    let signed_in = tokio::select! {
        finished = attempt.finish(&context.accounts) => finished?,
        _ = tokio::signal::ctrl_c() => return Err(CliError::Interrupted),
    };
    tell(context, hub, &signed_in);
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
