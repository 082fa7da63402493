//! `lab up|down|status|exec`: the lab, by hand.

use crate::{
    beside::Beside,
    setup::{self, Area},
    workspace::{become_command, cargo, command, is_root, run as run_command, sudo, tell},
};
use anyhow::Context;
use clap::{Args, Subcommand};
use fairlead_lab::{Cluster, Host, Options, ProxyMode};
use std::{
    ffi::OsString,
    process::ExitCode,
    time::{Duration, Instant},
};

/// The verbs of the lab.
#[derive(Debug, Subcommand)]
pub(crate) enum Lab {
    /// Starts the lab: two nodes, a laptop and a hub host; it stays until `lab down`
    Up {
        #[command(flatten)]
        name: Name,
        /// How kube-proxy programs Services: iptables or nftables
        #[arg(long, default_value = "iptables")]
        proxy_mode: ProxyMode,
        /// How often kube-proxy may program them, in milliseconds (its own default: 1000)
        #[arg(long, value_name = "MS")]
        min_sync_period: Option<u64>,
    },
    /// Builds what the cluster runs, once per machine, as the first `up` would
    Build,
    /// Ends the lab and removes everything it made
    Down {
        #[command(flatten)]
        name: Name,
    },
    /// Says whether the lab runs, and what runs in it
    Status {
        #[command(flatten)]
        name: Name,
        #[command(flatten)]
        another: Another,
    },
    /// Runs a program on a host: laptop, hub, api, node1 or node2
    Exec {
        #[command(flatten)]
        name: Name,
        /// As this user; ada is 7001 and grace 7002
        #[arg(long)]
        uid: Option<u32>,
        host: Host,
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
    /// Runs kubectl on the lab's cluster, or on another one
    Kubectl {
        #[command(flatten)]
        name: Name,
        #[command(flatten)]
        another: Another,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Runs the identity provider on the hub host until Ctrl-C: ada, grace and olga, without passwords
    Issuer {
        #[command(flatten)]
        name: Name,
    },
    /// Imports an image archive on both nodes
    Import {
        #[command(flatten)]
        name: Name,
        archive: std::path::PathBuf,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Name {
    /// Which lab; two run side by side under two names
    #[arg(long = "lab", value_name = "NAME", default_value = "lab")]
    lab: String,
}

/// What there is of a cluster, at a glance.
const LOOK: [&str; 4] = ["get", "nodes,pods", "--all-namespaces", "--output=wide"];

#[derive(Debug, Args)]
pub(crate) struct Another {
    /// Another cluster than the lab's
    #[arg(long, value_name = "FILE", conflicts_with = "lab")]
    kubeconfig: Option<OsString>,
}

/// Set for the run as root, which must not leave root's files in the user's target folder.
const BUILT: &str = "FAIRLEAD_LAB_IS_BUILT";

#[expect(
    clippy::disallowed_methods,
    reason = "what this tool says to itself when it runs itself again as root"
)]
fn is_built() -> bool {
    std::env::var_os(BUILT).is_some()
}

/// Builds the cluster's programs with what other work leaves of the processor.
pub(crate) fn build_beside() -> anyhow::Result<Beside> {
    setup::ensure(&[Area::Build, Area::Lab])?;
    let mut build = command("nice", ["-n", "19"]);
    build.arg(std::env::current_exe()?).args(["lab", "build"]);
    Beside::begin("cluster's programs", vec![build])
}

/// Runs a verb; most of them enter namespaces or make them, so they run as root.
pub(crate) fn run(verb: Lab) -> anyhow::Result<ExitCode> {
    match &verb {
        Lab::Status { another: Another { kubeconfig: Some(file) }, .. } => {
            return become_command(fairlead_lab::tools::kubectl_of(file)?.args(LOOK));
        }
        Lab::Kubectl { another: Another { kubeconfig: Some(file) }, arguments, .. } => {
            return become_command(fairlead_lab::tools::kubectl_of(file)?.args(arguments));
        }
        _ => {}
    }
    if let Lab::Build | Lab::Up { .. } | Lab::Issuer { .. } = verb {
        setup::ensure(&[Area::Build, Area::Lab])?;
    }
    let needs_programs = !matches!(verb, Lab::Build);
    if needs_programs && !is_built() {
        build_programs()?;
    }
    // What is built stays the user's.
    if needs_programs && !is_root() {
        let mut again = sudo(std::env::current_exe()?);
        return become_command(again.args(std::env::args_os().skip(1)).env(BUILT, "1"));
    }
    match verb {
        Lab::Up { name, proxy_mode, min_sync_period } => {
            let min_sync_period = min_sync_period.map(Duration::from_millis);
            let cluster = Cluster::ours_paced(proxy_mode, min_sync_period)?;
            up(&Options { name: name.lab, cluster, ends_with_me: false })
        }
        Lab::Build => {
            fairlead_lab::build()?;
            Ok(ExitCode::SUCCESS)
        }
        Lab::Down { name } => down(&name.lab),
        Lab::Status { name, .. } => status(&name.lab),
        Lab::Exec { name, uid, host, command } => exec(&name.lab, uid, host, command),
        Lab::Kubectl { name, arguments, .. } => {
            let lab = fairlead_lab::Lab::attach(&name.lab)?;
            become_command(lab.kubectl([]).args(arguments))
        }
        Lab::Issuer { name } => issuer(&name.lab),
        Lab::Import { name, archive } => {
            fairlead_lab::Lab::attach(&name.lab)?.import_image(&archive)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// The lab's processes are programs of their own: cargo alone knows whether they are up to date.
fn build_programs() -> anyhow::Result<()> {
    run_command(&mut cargo(["build", "--quiet", "--package", "fairlead-lab", "--bins"]))
}

fn up(options: &Options) -> anyhow::Result<ExitCode> {
    let begun = Instant::now();
    let lab = fairlead_lab::Lab::up(options)?;
    tell(&format!(
        "The lab `{}` is up after {:.1} s. Look around:",
        options.name,
        begun.elapsed().as_secs_f64()
    ));
    let named =
        if options.name == "lab" { String::new() } else { format!(" --lab {}", options.name) };
    tell(&format!("  cargo xtask lab kubectl{named} get pods -A"));
    tell(&format!("  cargo xtask lab exec{named} laptop -- bash"));
    tell(&format!("  cargo xtask lab down{named}        (logs: {})", lab.logs().display()));
    Ok(ExitCode::SUCCESS)
}

fn down(name: &str) -> anyhow::Result<ExitCode> {
    let begun = Instant::now();
    fairlead_lab::Lab::remove(name)?;
    tell(&format!("The lab `{name}` is gone after {:.1} s.", begun.elapsed().as_secs_f64()));
    Ok(ExitCode::SUCCESS)
}

fn status(name: &str) -> anyhow::Result<ExitCode> {
    if !fairlead_lab::Lab::is_running(name)? {
        tell(&format!("No lab named `{name}` runs."));
        return Ok(ExitCode::from(3));
    }
    let lab = fairlead_lab::Lab::attach(name)?;
    run_command(&mut lab.kubectl(LOOK))?;
    tell(&format!("{:#?}", lab.counters()?));
    Ok(ExitCode::SUCCESS)
}

/// Ctrl-C ends this process, and with it the provider: a program on a host goes with whoever started it.
fn issuer(name: &str) -> anyhow::Result<ExitCode> {
    let options = fairlead_lab::IssuerOptions::default();
    let _running = fairlead_lab::Lab::attach(name)?.issuer(&options)?;
    tell(&format!("The identity provider answers at {} inside the lab.", options.issuer));
    loop {
        std::thread::park();
    }
}

fn exec(
    name: &str,
    uid: Option<u32>,
    host: Host,
    command: Vec<OsString>,
) -> anyhow::Result<ExitCode> {
    let lab = fairlead_lab::Lab::attach(name)?;
    let (program, arguments) = command.split_first().context("no program")?;
    let mut command = match uid {
        Some(uid) => lab.exec_as(host, uid, program),
        None => lab.exec(host, program),
    };
    become_command(command.args(arguments))
}
