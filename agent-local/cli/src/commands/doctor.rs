//! `fairlead doctor`: how this laptop differs from its clean state, what would break, and what to do about it.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use laptop_ipc::{
    FailureKind,
    daemon::{Laptop, Link, Reached, Status, Way},
    supervisor::{self, SplitDns},
};
use serde::Serialize;
use tokio::time::sleep;

use super::{Context, cleanup, consume::counted};
use crate::{
    checks::{Finding, State, hosts_file, proxies, resolving, rooms},
    config::proxy_variables,
    errors::CliError,
    inside::HOSTS,
    output::Shown,
};

/// Grants and certificates allow for this much.
const SKEW_MAX: Duration = fairlead_model::timers::CLOCK_SKEW;
/// A daemon that has just been started is given so long to reach the hub.
const LINK_MAX: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(100);
const NFT: [&str; 3] = ["/usr/sbin/nft", "/sbin/nft", "/usr/bin/nft"];

#[derive(Serialize)]
#[serde(transparent)]
pub(super) struct Findings(pub(super) Vec<Finding>);

impl Shown for Findings {
    fn to_text(&self) -> String {
        let width = self.0.iter().map(|finding| finding.check.len()).max().unwrap_or_default();
        self.0.iter().map(|finding| line(finding, width)).collect()
    }
}

fn line(finding: &Finding, width: usize) -> String {
    let state = match finding.state {
        State::Ok => "ok",
        State::Warning => "warning",
        State::Problem => "PROBLEM",
    };
    let indent = " ".repeat(width + 11);
    let message = finding.message.replace('\n', &format!("\n{indent}"));
    let advice =
        finding.advice.as_ref().map(|advice| format!("{indent}do: {advice}\n")).unwrap_or_default();
    format!("{state:7}  {:width$}  {message}\n{advice}", finding.check)
}

pub(super) async fn run(context: &Context<'_>, fix: bool) -> Result<(), CliError> {
    if fix {
        cleanup::run(context, false).await?;
    }
    let findings = look(context).await;
    let problems: Vec<&Finding> =
        findings.0.iter().filter(|finding| finding.state == State::Problem).collect();
    let outcome = problems.first().map_or(Ok(()), |first| {
        let message = match problems.len() {
            1 => format!("there is a problem: {}", first.check),
            n => format!("there are {n} problems"),
        };
        let kind = first.kind.unwrap_or(FailureKind::Internal);
        Err(CliError::new(
            kind,
            message,
            "each is listed with what to do; residue goes with: fairlead doctor --fix",
        ))
    });
    context.output.show(&findings)?;
    outcome
}

/// Looks at everything, the laptop's own state first.
pub(super) async fn look(context: &Context<'_>) -> Findings {
    let status = settled(context).await;
    let supervisor = context.parts.ask_supervisor(supervisor::Request::Status).await;
    let (is_supervised, supervisor_version) = match supervisor {
        Ok(Some(supervisor::Answer::Status { version, .. })) => (true, Some(version)),
        Ok(Some(_)) | Err(_) => (true, None),
        Ok(None) => (false, None),
    };
    let mut findings = vec![
        residue(context, status.as_ref(), is_supervised).await,
        versions(
            status.as_ref().map(|status| status.version.as_str()),
            supervisor_version.as_deref(),
        ),
        daemon(status.as_ref()),
        redirects(status.as_ref(), NFT.iter().any(|path| Path::new(path).exists())),
        hosts_file::finding(Path::new(HOSTS)),
    ];
    findings.extend(hosts_file::names(names_wanted(status.as_ref())));
    findings.extend([
        resolving::order(&fs::read_to_string("/etc/nsswitch.conf").unwrap_or_default()),
        resolving::rewriters(&processes()),
        proxies::finding(&proxy_variables()),
        rooms::finding(&[&context.folders.config, &context.folders.state]),
    ]);
    findings.extend(status.as_ref().and_then(|status| split_dns(status.split_dns.as_ref()?)));
    findings.extend(hub(context).await);
    Findings(findings)
}

/// Returns what the daemon says, and when it says that it is connecting, what it says a moment later.
async fn settled(context: &Context<'_>) -> Option<Status> {
    let deadline = Instant::now() + LINK_MAX;
    loop {
        let status = context.parts.status().await.ok()?;
        if !matches!(status.hub, Link::Connecting { .. }) || Instant::now() > deadline {
            return Some(status);
        }
        sleep(LOOK_EVERY).await;
    }
}

/// What stands that differs from the clean state, and who wants it.
async fn residue(context: &Context<'_>, status: Option<&Status>, is_supervised: bool) -> Finding {
    const CHECK: &str = "residue";
    let standing = match cleanup::what_stands(context).await {
        Ok(standing) => standing,
        Err(error) => {
            let advice = "look as root: sudo fairlead doctor";
            return Finding::warning(CHECK, error.to_string(), advice);
        }
    };
    let wanted: Vec<Reached> = wanted(status).cloned().collect();
    let listed = standing.iter().map(|change| format!("\n{change}")).collect::<String>();
    match (standing.is_empty(), wanted.is_empty()) {
        (true, _) => Finding::ok(CHECK, "the machine is as it was before Fairlead"),
        (false, true) => Finding::problem(
            CHECK,
            FailureKind::Cleanup,
            format!("changed, and nobody wants it:{listed}"),
            if is_supervised { "fairlead doctor --fix" } else { "sudo fairlead cleanup" },
        ),
        (false, false) => Finding::ok(
            CHECK,
            format!(
                "changed for what you consume, {} (fairlead stop takes it back):{listed}",
                counted(&wanted)
            ),
        ),
    }
}

/// What is to be reached on the whole laptop.
fn wanted(status: Option<&Status>) -> impl Iterator<Item = &Reached> {
    let sessions = status.into_iter().flat_map(|status| &status.sessions);
    sessions.filter(|session| !session.of_program).flat_map(|session| &session.services)
}

fn names_wanted(status: Option<&Status>) -> impl Iterator<Item = &str> {
    wanted(status).map(|reached| reached.name.as_str())
}

fn versions(daemon: Option<&str>, supervisor: Option<&str>) -> Finding {
    const CHECK: &str = "versions";
    let ours = env!("CARGO_PKG_VERSION");
    let other = [("daemon", daemon), ("supervisor", supervisor)]
        .into_iter()
        .find_map(|(part, version)| Some((part, version.filter(|version| *version != ours)?)));
    match other {
        None => Finding::ok(CHECK, format!("all parts that run are {ours}")),
        Some((part, version)) => Finding::problem(
            CHECK,
            FailureKind::Version,
            format!("the {part} is {version}, this command is {ours}"),
            "restart it: fairlead stop, sudo systemctl restart fairlead-supervisor (or end it), fairlead start",
        ),
    }
}

fn daemon(status: Option<&Status>) -> Finding {
    const CHECK: &str = "daemon";
    let Some(status) = status else {
        return Finding::warning(CHECK, "not running", "fairlead start");
    };
    match (&status.laptop, &status.hub) {
        (Laptop::Broken { reason }, _) => Finding::problem(
            CHECK,
            FailureKind::LaptopNetwork,
            format!("names or redirects do not work: {reason}"),
            "fairlead logs shows since when; `sudo nft monitor` names whatever changes nftables",
        ),
        (_, Link::Connecting { hub, reason }) => Finding::problem(
            CHECK,
            FailureKind::HubUnreachable,
            format!("not connected to {hub}: {reason}"),
            "check the network, VPN and proxy; it tries again by itself",
        ),
        (_, Link::SignedOut) => Finding::warning(CHECK, "running, not signed in", "fairlead login"),
        (_, Link::Connected { hub, .. }) => {
            Finding::ok(CHECK, format!("running, connected to {hub}"))
        }
    }
}

fn redirects(status: Option<&Status>, is_nft_there: bool) -> Finding {
    const CHECK: &str = "nftables";
    const ADVICE: &str =
        "install nftables (Debian: apt install nftables), then: fairlead stop, fairlead start";
    let way = status.and_then(|status| status.way);
    match (way, is_nft_there) {
        (Some(Way::Redirects), _) => {
            Finding::ok(CHECK, "nft is there, and redirects are made with it")
        }
        (Some(Way::Listeners), true) => Finding::warning(
            CHECK,
            "it may not be used here (a container, or a kernel without it): there are listeners in its place",
            "nothing, unless a port is in use: fairlead consume --remap",
        ),
        (None, true) => Finding::ok(CHECK, "nft is there"),
        (_, false) => Finding::warning(
            CHECK,
            "nft is missing: there is a listener for each service port, and programs can be in its way",
            ADVICE,
        ),
    }
}

fn split_dns(split: &SplitDns) -> Option<Finding> {
    const CHECK: &str = "split DNS";
    Some(match split {
        SplitDns::Asks => {
            Finding::ok(CHECK, "systemd-resolved asks Fairlead for names of the cluster")
        }
        SplitDns::Absent => Finding::ok(
            CHECK,
            "there is no systemd-resolved: names are those of the hosts file, and the rest (SRV, …) is answered to \
             whoever asks 127.72.0.53",
        ),
        SplitDns::Refused { why } => Finding::warning(
            CHECK,
            format!("systemd-resolved could not be told: {why}"),
            "see whether `resolvectl status` answers, then: fairlead stop, fairlead start",
        ),
    })
}

/// The hub as this command reaches it, and its clock.
async fn hub(context: &Context<'_>) -> Option<Finding> {
    const CHECK: &str = "hub";
    let hub = context.hub().ok()?;
    let name = hub.account().hub().to_string();
    Some(match hub.greets().await {
        Err(error) => {
            let failure = laptop_ipc::Failure::from(error);
            let advice = failure.hint.unwrap_or_else(|| "fairlead status".to_owned());
            Finding::problem(CHECK, failure.kind, failure.message, advice)
        }
        Ok(greeting) => clock(&format!("{name} ({})", greeting.version), greeting.ahead_s),
    })
}

fn clock(hub: &str, ahead_s: i64) -> Finding {
    const CHECK: &str = "hub";
    if ahead_s.unsigned_abs() <= SKEW_MAX.as_secs() {
        return Finding::ok(CHECK, format!("{hub} answers, and the clocks agree"));
    }
    let side = if ahead_s > 0 { "behind" } else { "ahead of" };
    Finding::problem(
        CHECK,
        FailureKind::LaptopNetwork,
        format!("this clock is {} s {side} that of {hub}", ahead_s.unsigned_abs()),
        "set the clock: sudo timedatectl set-ntp true",
    )
}

fn processes() -> Vec<String> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| fs::read_to_string(entry.path().join("comm")).ok());
    names.map(|name| name.trim().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_another_version_and_a_clock_that_is_off_are_problems() {
        let ours = env!("CARGO_PKG_VERSION");
        assert_eq!(versions(Some(ours), None).state, State::Ok);
        let found = versions(Some(ours), Some("9.9.9"));
        assert_eq!((found.state, found.kind), (State::Problem, Some(FailureKind::Version)));
        assert!(found.message.contains("the supervisor is 9.9.9"), "{found:?}");
        assert_eq!(clock("hub", 59).state, State::Ok);
        assert!(clock("hub", 3600).message.contains("3600 s behind"));
        assert!(clock("hub", -90).message.contains("90 s ahead of"));
    }

    #[test]
    fn what_to_do_stands_below_what_was_found() {
        let text = Findings(vec![
            Finding::ok("residue", "one\ntwo"),
            Finding::warning("nft", "missing", "install it"),
        ])
        .to_text();
        let expected = "ok       residue  one\n                  two\n\
                        warning  nft      missing\n                  do: install it\n";
        assert_eq!(text, expected);
    }
}
