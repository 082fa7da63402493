//! `fairlead login`: a browser signs in, here or elsewhere, or a job with its token, and this machine becomes a device.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use laptop_account::{
    DeviceLogin, HubUrl, InvalidHubUrl, LoginAttempt, SignedIn, sign_in_with_token,
};
use laptop_ipc::{FailureKind, daemon::Request};

use super::Context;
use crate::{args::Job, config, errors::CliError};

/// A file that is longer holds something else.
const TOKEN_MAX_BYTES: u64 = 4096;

/// Where the browser is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Way {
    /// Here, and we open it.
    Open,
    /// Here, and somebody else opens it.
    Print,
    /// At another machine.
    Elsewhere,
    /// Nowhere: a file has the token of a service account.
    TokenIn(PathBuf),
}

pub(super) async fn run(
    context: &Context<'_>,
    hub: Option<HubUrl>,
    ca_file: Option<&Path>,
    way: Way,
) -> Result<(), CliError> {
    let token = match &way {
        Way::TokenIn(file) => Some(read_token(file)?),
        Way::Open => config::api_token(),
        Way::Print | Way::Elsewhere => None,
    };
    if let Some(token) = token {
        return with_token(context, hub, ca_file, &token).await;
    }
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

/// Signs a job in that brings a token; leaves everything as it is for anybody else.
pub(super) async fn job(context: &Context<'_>, job: Job) -> Result<(), CliError> {
    let token = match &job.token_file {
        Some(file) => Some(read_token(file)?),
        None => config::api_token(),
    };
    match token {
        Some(token) => with_token(context, job.hub, job.ca_file.as_deref(), &token).await,
        None if job.hub.is_none() && job.ca_file.is_none() => Ok(()),
        None => Err(CliError::new(
            FailureKind::Input,
            "--hub and --ca-file are for jobs that bring a token, and there is none",
            "set FAIRLEAD_TOKEN or name a --token-file; or sign in before: fairlead login",
        )),
    }
}

async fn with_token(
    context: &Context<'_>,
    hub: Option<HubUrl>,
    ca_file: Option<&Path>,
    token: &str,
) -> Result<(), CliError> {
    let named = || config::hub().map(|hub| hub.parse::<HubUrl>()).transpose();
    let hub = match hub {
        Some(hub) => hub,
        None => match named().map_err(not_a_hub)? {
            Some(hub) => hub,
            None => context.accounts.last_hub()?.ok_or_else(no_hub)?,
        },
    };
    let proxies = config::proxies()?;
    let signed_in = sign_in_with_token(&context.accounts, &hub, ca_file, proxies, token).await?;
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

/// Reads a token; never more than one could be.
fn read_token(file: &Path) -> Result<String, CliError> {
    let mut text = String::new();
    let read = if file == Path::new("-") {
        io::stdin().take(TOKEN_MAX_BYTES).read_to_string(&mut text)
    } else {
        File::open(file).and_then(|file| file.take(TOKEN_MAX_BYTES).read_to_string(&mut text))
    };
    let why = match read {
        Ok(_) if text.trim().is_empty() => "it is empty".to_owned(),
        Ok(_) => return Ok(text),
        Err(error) => error.to_string(),
    };
    Err(CliError::new(
        FailureKind::Input,
        format!("could not read the token in {}: {why}", file.display()),
        "an admin makes one: fairlead service-account token",
    ))
}

fn not_a_hub(error: InvalidHubUrl) -> CliError {
    let hint = "it is the hub's address, as in FAIRLEAD_HUB=https://hub.example.com";
    CliError::new(FailureKind::Input, format!("FAIRLEAD_HUB: {error}"), hint)
}

fn no_hub() -> CliError {
    CliError::new(
        FailureKind::Input,
        "which hub?",
        "name it once: fairlead login https://hub.example.com; a job sets FAIRLEAD_HUB",
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_from_its_file_or_it_is_said_why_not() {
        let file = std::env::temp_dir().join(format!("fairlead-token-{}", std::process::id()));
        let said = |file: &Path| read_token(file).expect_err("no token").to_string();
        assert!(said(&file).contains("could not read the token in"), "{}", said(&file));
        std::fs::write(&file, "\n").expect("written");
        assert!(said(&file).contains("it is empty"), "{}", said(&file));
        std::fs::write(&file, "flt_text\n").expect("written");
        assert_eq!(read_token(&file).expect("read"), "flt_text\n");
        std::fs::write(&file, vec![b'x'; 1 << 20]).expect("written");
        assert_eq!(read_token(&file).expect("read").len() as u64, TOKEN_MAX_BYTES);
        std::fs::remove_file(&file).expect("removed");
    }
}
