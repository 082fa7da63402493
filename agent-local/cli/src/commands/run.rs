//! `fairlead run`: a consume for one program, which this process then becomes.
//!
//! So exit code, signals, terminal and job control are the program's own, and the daemon sees its end by itself.

use std::{
    collections::BTreeSet, env, fs, io::Write as _, os::fd::AsRawFd as _,
    os::unix::process::CommandExt as _, process::Stdio, time::Duration,
};

use fairlead_model::{Patterns, Phase, ServicePort};
use laptop_footprint::{NETWORK, entry_of, with_entries_first};
use laptop_ipc::{
    FailureKind,
    daemon::{Moved, Request, RunName, Session},
    supervisor::cluster_names,
};
use nix::sys::memfd::{MFdFlags, memfd_create};
use tokio::process::Command;

use super::{
    Context,
    login::{self, tell_daemon},
    proof::{self, Running},
    teamspace,
};
use crate::{
    args::{Run, with_hosts},
    checks::hosts_file,
    config,
    errors::CliError,
    inside::HOSTS,
};

pub(super) async fn run(context: &Context<'_>, run: Run) -> Result<(), CliError> {
    can_have_names().await?;
    login::job(context, run.job).await?;
    // The daemon does not see this shell.
    if context.accounts.keep_proxies(&config::proxies()?)? {
        tell_daemon(context).await?;
    }
    let patterns = Patterns::new(with_hosts(run.patterns, run.also)).map_err(|error| {
        let hint = "for example: fairlead run --consume 'shop/*' -- npm test";
        CliError::new(FailureKind::Input, error.to_string(), hint)
    })?;
    let hub = context.hub()?;
    let teamspace = teamspace::meant(&hub, run.of).await?;
    let url = hub.account().hub().to_string();
    let request = Request::Run { hub: url, teamspace, patterns, remap: run.remap };
    let Running { session, refused, warnings, names } = proof::begin_run(context, request).await?;
    warnings.iter().for_each(|warning| context.output.warn(warning));
    for refused in refused {
        context.output.warn(format!("{} is left out: {}", refused.service, refused.reason));
    }
    let full_names: Vec<_> = names.iter().map(|name| name.callee.dns_name()).collect();
    if let Some(warning) = hosts_file::lead_elsewhere(full_names.iter().map(String::as_str)) {
        context.output.warn(warning);
    }
    let session = proof::wait(context, session, Duration::from_secs(run.timeout)).await?;
    must_be_proven(&session, run.timeout)?;
    names.iter().flat_map(where_it_is).for_each(|said| context.output.say(said));
    Err(become_program(&names, &run.program))
}

/// Sees in a process of its own whether the program can have names of its own, before anything has begun.
async fn can_have_names() -> Result<(), CliError> {
    let mut trial = Command::new(ourselves()?);
    let status = trial.arg("inside").stdin(Stdio::null()).stdout(Stdio::null()).status().await;
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err(CliError::Said(FailureKind::LaptopNetwork)),
        Err(source) => Err(CliError::NotStarted { program: "fairlead".to_owned(), source }),
    }
}

fn ourselves() -> Result<std::path::PathBuf, CliError> {
    env::current_exe()
        .map_err(|source| CliError::NotStarted { program: "fairlead".to_owned(), source })
}

/// What has not answered yet is no ground to run a program on. The session ends with this process.
fn must_be_proven(session: &Session, seconds: u64) -> Result<(), CliError> {
    if session.phase == Phase::Active {
        return Ok(());
    }
    let detail = session.detail.as_ref().map(|detail| format!(": {detail}")).unwrap_or_default();
    Err(CliError::new(
        FailureKind::Unproven,
        format!("no service has answered within {seconds} s ({}{detail})", session.phase),
        "the program was not started; --timeout waits longer",
    ))
}

fn where_it_is(name: &RunName) -> Vec<String> {
    let host = name.callee.dns_name();
    let said = |&Moved { from, to }: &Moved| {
        format!("{host}:{from} is {host}:{}", ServicePort { port: to, ..from })
    };
    name.moved.iter().map(said).collect()
}

/// Becomes the program, which sees the names; returns only why that failed.
fn become_program(names: &[RunName], program: &[std::ffi::OsString]) -> CliError {
    let hosts = match hosts_for(names) {
        Ok(hosts) => hosts,
        Err(error) => {
            let hint = "the program needs it beside the names of services";
            return CliError::new(FailureKind::LaptopNetwork, format!("{HOSTS}: {error}"), hint);
        }
    };
    let ourselves = match ourselves() {
        Ok(ourselves) => ourselves,
        Err(error) => return error,
    };
    let mut command = std::process::Command::new(ourselves);
    command.arg("inside").arg("--hosts").arg(hosts.as_raw_fd().to_string());
    if let Some(RunName { callee, address, .. }) = names.first() {
        // The last one is nobody else's.
        let name = cluster_names(callee, false).pop();
        command.arg("--proof").args(name).arg(address.to_string());
    }
    command.arg("--").args(program).envs(config::past_proxies(&exceptions(names)));
    // Whatever a test runs could read it.
    command.env_remove(config::TOKEN_VARIABLE);
    CliError::NotStarted { program: "fairlead".to_owned(), source: command.exec() }
}

/// Writes the hosts file into memory that the next program inherits.
fn hosts_for(names: &[RunName]) -> std::io::Result<fs::File> {
    let entries: Vec<_> =
        names.iter().map(|name| entry_of(&name.callee, name.is_home, name.address)).collect();
    let mut file = fs::File::from(memfd_create("hosts", MFdFlags::empty())?);
    file.write_all(&with_entries_first(&fs::read(HOSTS)?, &entries))?;
    Ok(file)
}

/// Returns what a proxy must not be asked for.
fn exceptions(names: &[RunName]) -> Vec<String> {
    let mut except: BTreeSet<String> = BTreeSet::new();
    for RunName { callee, is_home, .. } in names {
        match callee.service() {
            Some(service) => except.insert(format!(".{}", service.namespace)),
            None => except.insert(callee.dns_name()),
        };
        except.extend(is_home.then(|| cluster_names(callee, true).swap_remove(0)));
    }
    except.extend([".svc".to_owned(), ".cluster.local".to_owned(), format!("{NETWORK}/14")]);
    except.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use fairlead_model::ServiceRef;

    use super::*;

    fn moved((from, to): (&str, &str)) -> Moved {
        Moved { from: from.parse().expect("valid"), to: to.parse().expect("valid") }
    }

    fn name(service: &str, is_home: bool) -> RunName {
        RunName {
            callee: service.parse::<ServiceRef>().expect("valid").into(),
            address: Ipv4Addr::new(127, 72, 1, 2),
            is_home,
            moved: [("80", "8080"), ("53/udp", "8053")].map(moved).into(),
        }
    }

    #[test]
    fn a_port_that_is_elsewhere_is_said() {
        let said = where_it_is(&name("shop/cart", true));
        let expected = ["cart.shop:80 is cart.shop:8080", "cart.shop:53/udp is cart.shop:8053/udp"];
        assert_eq!(said, expected);
    }

    #[test]
    fn a_proxy_is_not_asked_for_what_is_reached() {
        let except = exceptions(&[name("shop/cart", true), name("pay/api", false)]);
        for expected in [".shop", ".pay", "cart", ".svc", ".cluster.local", "127.72.0.0/14"] {
            assert!(except.iter().any(|name| name == expected), "{expected}: {except:?}");
        }
        assert!(!except.contains(&"api".to_owned()));
    }
}
