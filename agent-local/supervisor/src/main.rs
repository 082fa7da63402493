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

use std::{
    io::{self, IsTerminal as _, Write as _},
    process::ExitCode,
    sync::Mutex,
};

use clap::Parser as _;
use config::{Args, Verb};
use laptop_ipc::BoundedLog;
use nix::unistd::Pid;
use tracing::error;

fn main() -> ExitCode {
    let args = Args::parse();
    let log = Mutex::new(BoundedLog::of_stderr());
    // A file and the journal keep colours as what they are: odd characters.
    let is_coloured = io::stderr().is_terminal();
    tracing_subscriber::fmt().with_writer(log).with_ansi(is_coloured).with_target(false).init();
    // Started for good it logs; a command that is over in a moment speaks as `fairlead` does.
    let is_for_good = matches!(args.verb, Verb::Run { detach: false, .. });
    let outcome = match args.verb {
        Verb::Run { worker: Some(guard), .. } => worker::run(&args.config, Pid::from_raw(guard)),
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
            if is_for_good {
                error!("{failure:#}");
            } else {
                say(&format!("error: {failure:#}"));
            }
            ExitCode::FAILURE
        }
    }
}

/// Says something to whoever typed the command.
fn say(text: &str) {
    // Nobody is left to tell when stderr is closed.
    drop(writeln!(io::stderr(), "{text}"));
}
