//! What the supervisor is told: flags, and what systemd says to its services. A root process trusts no other environment.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::{Parser, Subcommand};
use laptop_footprint::{Paths, Resolver};
use laptop_ipc::RunFolder;

use crate::notify;

#[derive(Debug, Parser)]
#[command(
    name = "fairlead-supervisor",
    version,
    about = "Changes this machine for Fairlead, and takes it back"
)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) config: Config,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Debug, Clone, Copy, Subcommand)]
pub(crate) enum Verb {
    /// Serve the users of this machine until stopped
    Run {
        /// Go to the background once the socket is there
        #[arg(long)]
        detach: bool,
        /// The process that does the work, under this guard
        #[arg(long, hide = true, value_name = "PID")]
        worker: Option<i32>,
    },
    /// Install the supervisor as a service of systemd, which starts it now and at each boot
    Install,
    /// Stop the service, which takes everything back, and remove it
    Uninstall,
    /// Say what an earlier run left, as far as the caller may see it
    #[command(hide = true)]
    Residue,
    /// Take back whatever an earlier run left
    Cleanup {
        /// Only say what would be taken back
        #[arg(long)]
        dry_run: bool,
    },
}

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Config {
    /// Folder of the sockets
    #[arg(long, global = true, value_name = "DIR", default_value = RunFolder::DEFAULT)]
    run_dir: PathBuf,
    /// Folder of the journal and of what is remembered
    #[arg(long, global = true, value_name = "DIR", default_value = "/var/lib/fairlead")]
    pub(crate) state_dir: PathBuf,
    #[arg(long, global = true, value_name = "FILE", default_value = "/etc/hosts")]
    hosts_file: PathBuf,
    #[arg(long, global = true, value_name = "FILE", default_value = "/usr/sbin/nft")]
    nft: PathBuf,
    #[arg(long, global = true, value_name = "FILE", default_value = "/usr/sbin/ip")]
    ip: PathBuf,
    #[arg(long, global = true, value_name = "FILE", default_value = "/usr/bin/resolvectl")]
    resolvectl: PathBuf,
    /// Folder in which systemd-resolved shows that it runs
    #[arg(long, global = true, value_name = "DIR", default_value = "/run/systemd/resolve")]
    resolved_dir: PathBuf,
    /// The daemon's program; the default is the one beside this program
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) daemon: Option<PathBuf>,
}

/// What systemd wants to hear, and how often.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) socket: String,
    pub(crate) watchdog: Option<Duration>,
}

impl Service {
    /// Returns what systemd has told us; `None` when it did not start us.
    pub(crate) fn of_systemd() -> Option<Self> {
        let watchdog = read("WATCHDOG_USEC").as_deref().and_then(notify::watchdog);
        read("NOTIFY_SOCKET").map(|socket| Self { socket, watchdog })
    }
}

#[expect(clippy::disallowed_methods, reason = "the protocol of systemd is two variables")]
fn read(variable: &str) -> Option<String> {
    std::env::var(variable).ok()
}

impl Config {
    pub(crate) fn run_folder(&self) -> RunFolder {
        RunFolder::new(self.run_dir.clone())
    }

    pub(crate) fn footprint(&self) -> Paths {
        Paths {
            hosts: self.hosts_file.clone(),
            nft: self.nft.clone(),
            journal: self.state_dir.join("residue.jsonl"),
            addresses: self.state_dir.join("addresses.json"),
            resolver: Resolver {
                ip: self.ip.clone(),
                resolvectl: self.resolvectl.clone(),
                resolved_dir: self.resolved_dir.clone(),
            },
        }
    }

    /// Returns the flags that give another process of this program the same configuration.
    pub(crate) fn as_flags(&self) -> Vec<OsString> {
        let mut flags: Vec<OsString> = Vec::new();
        let named = [
            ("--run-dir", Some(&self.run_dir)),
            ("--state-dir", Some(&self.state_dir)),
            ("--hosts-file", Some(&self.hosts_file)),
            ("--nft", Some(&self.nft)),
            ("--ip", Some(&self.ip)),
            ("--resolvectl", Some(&self.resolvectl)),
            ("--resolved-dir", Some(&self.resolved_dir)),
            ("--daemon", self.daemon.as_ref()),
        ];
        for (name, value) in named {
            if let Some(value) = value {
                flags.extend([name.into(), value.into()]);
            }
        }
        flags
    }
}
