//! The laptop supervisor: root, tiny, parses no network data. It changes the machine for the daemons of its users,
//! keeps those daemons running, and takes everything back when one of them, or itself, is gone.

mod cleanup;
mod config;
mod conversation;
mod daemons;
mod datagrams;
mod dns_sockets;
mod guard;
mod install;
mod lock;
mod machine;
mod notify;
mod room;
mod watch;
mod worker;

use std::{process::ExitCode, sync::Mutex};

use clap::Parser as _;
use config::{Args, Verb};
use laptop_ipc::BoundedLog;
use tracing::error;

fn main() -> ExitCode {
    let args = Args::parse();
    let log = Mutex::new(BoundedLog::of_stderr());
    tracing_subscriber::fmt().with_writer(log).with_target(false).init();
    let outcome = match args.verb {
        Verb::Run { worker: true, .. } => worker::run(&args.config),
        Verb::Run { detach: true, .. } => guard::detach(&args.config),
        Verb::Run { .. } => guard::run(&args.config),
        Verb::Install => install::install(),
        Verb::Uninstall => install::uninstall(),
        Verb::Residue => cleanup::say_what_is_left(&args.config),
        Verb::Cleanup { dry_run } => cleanup::run(&args.config, dry_run),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            error!("{failure:#}");
            ExitCode::FAILURE
        }
    }
}
