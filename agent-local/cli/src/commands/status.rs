//! `fairlead status`: what is connected, and what has been proven to work; `--wait` until it is.

use std::time::{Duration, Instant};

use fairlead_model::Phase;
use laptop_account::Account;
use laptop_ipc::{
    FailureKind,
    daemon::{Answer, Laptop, Link, PATIENCE_MAX, Request, Status, Way},
    supervisor::SplitDns,
};
use serde::Serialize;
use tokio::signal::ctrl_c;

use super::{Context, list};
use crate::{errors::CliError, output::Shown, parts::unexpected};

#[derive(Serialize)]
struct StatusView {
    user: Option<String>,
    /// Through whom the hub is dialled, without the password.
    #[serde(skip_serializing_if = "Option::is_none")]
    proxy: Option<String>,
    #[serde(flatten)]
    status: Status,
}

impl Shown for StatusView {
    fn to_text(&self) -> String {
        let user = self.user.as_deref().unwrap_or("nobody");
        let mut text = format!(
            "daemon  running (pid {}, version {})\nhub     {}\n{}laptop  {}\n",
            self.status.pid,
            self.status.version,
            link(&self.status.hub, user),
            self.proxy.as_ref().map(|proxy| format!("proxy   {proxy}\n")).unwrap_or_default(),
            laptop(&self.status.laptop, self.status.way),
        );
        if let Some(why) = &self.status.dns_refusal {
            text.push_str(&format!(
                "dns     does not answer ({why}): names are in the hosts file only\n"
            ));
        }
        match &self.status.split_dns {
            Some(SplitDns::Asks) => {
                text.push_str("dns     systemd-resolved asks Fairlead for names of the cluster\n");
            }
            Some(SplitDns::Refused { why }) => {
                text.push_str(&format!("dns     systemd-resolved could not be told ({why})\n"));
            }
            Some(SplitDns::Absent) | None => {}
        }
        text.push('\n');
        text.push_str(&list::sessions_text(&self.status.sessions));
        text
    }
}

fn link(link: &Link, user: &str) -> String {
    match link {
        Link::SignedOut => "not signed in".to_owned(),
        Link::Connecting { hub, reason } => format!("{hub}: connecting ({reason})"),
        Link::Connected { hub, replica, is_in_websocket } => {
            let inside = if *is_in_websocket { ", inside a WebSocket" } else { "" };
            format!("{hub}: connected as {user} (replica {replica}{inside})")
        }
    }
}

fn laptop(laptop: &Laptop, way: Option<Way>) -> String {
    match (laptop, way) {
        (Laptop::Unchanged, _) => "unchanged: no names, no redirects".to_owned(),
        (Laptop::Proven, Some(Way::Listeners)) => {
            "names and listeners proven to work (one for each service port: there is no nftables)"
                .to_owned()
        }
        (Laptop::Proven, _) => "names and redirects proven to work".to_owned(),
        (Laptop::Broken { reason }, _) => format!("broken: {reason}"),
    }
}

pub(super) async fn run(context: &Context<'_>) -> Result<(), CliError> {
    let status = context.parts.status().await?;
    show(context, status)
}

/// Returns what `status` would show, or why it would not.
pub(super) async fn text(context: &Context<'_>) -> String {
    let status = context.parts.status().await;
    status.map_or_else(|error| format!("{error}\n"), |status| view(context, status).to_text())
}

/// Shows the status when everything is proven, or when time is up; the exit code says which of the two it was.
pub(super) async fn wait(context: &Context<'_>, timeout_s: u16) -> Result<(), CliError> {
    let deadline = Instant::now() + Duration::from_secs(timeout_s.into());
    let status = tokio::select! {
        status = proven_until(context, deadline) => status?,
        _ = ctrl_c() => return Err(CliError::Interrupted),
    };
    let verdict = verdict(&status);
    show(context, status)?;
    verdict
}

async fn proven_until(context: &Context<'_>, deadline: Instant) -> Result<Status, CliError> {
    loop {
        // The daemon waits for a bounded time; a longer wait asks again.
        let left = deadline.saturating_duration_since(Instant::now()).min(PATIENCE_MAX);
        let patience_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
        let request = Request::AwaitProven { patience_ms };
        let status = match context.parts.ask_daemon(request).await? {
            Answer::Status(status) => status,
            other => return Err(unexpected(&other)),
        };
        if status.pending().is_empty() || Instant::now() >= deadline {
            return Ok(status);
        }
    }
}

fn verdict(status: &Status) -> Result<(), CliError> {
    let refused = status.sessions.iter().find(|session| session.phase == Phase::Refused);
    if let Some(failure) = refused.and_then(|session| session.failure.clone()) {
        return Err(failure.into());
    }
    let pending = status.pending();
    let Some(first) = pending.first() else { return Ok(()) };
    let others = match pending.len() {
        1 => String::new(),
        count => format!(" (and {} more)", count - 1),
    };
    Err(CliError::new(
        FailureKind::Unproven,
        format!("not everything is proven to work: {first}{others}"),
        "it goes on trying: wait longer with --timeout, or look into it with fairlead status",
    ))
}

fn show(context: &Context<'_>, status: Status) -> Result<(), CliError> {
    context.output.show(&view(context, status))
}

fn view(context: &Context<'_>, status: Status) -> StatusView {
    let account = context.accounts.current().ok();
    let proxy = account.as_ref().and_then(proxy_of);
    let profile = account.and_then(|account| account.profile().ok().flatten());
    StatusView { user: profile.map(|profile| profile.email), proxy, status }
}

fn proxy_of(account: &Account) -> Option<String> {
    let hub = account.hub().join("/");
    let proxies = account.proxies().ok()?;
    let proxy = proxies.towards(hub.host_str()?, hub.port_or_known_default()?)?;
    Some(proxy.to_string())
}
