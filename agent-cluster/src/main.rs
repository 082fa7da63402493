//! The cluster agent: dials out to the hub, serves consumes, redirects intercepted Services.

mod apply;
mod assemble;
mod carriers;
mod catalogue;
mod config;
mod consume;
mod data_plane;
mod datagrams;
mod enrol;
mod grants;
mod health;
mod held;
mod intercept;
mod janitor;
mod lease;
mod link;
mod listen;
#[cfg(test)]
mod made_up;
mod names;
mod outside;
#[cfg(test)]
mod pair;
mod peers;
mod report;
mod resolve;
mod restore;
mod seen;
mod wanted;
mod watch;
mod workload;

use std::{io::Write, process::ExitCode};

use anyhow::Context as _;
use config::{Command, Verb};
use data_plane::DataPlane;
use mimalloc::MiMalloc;
use tokio::runtime::Runtime;

/// Less processor time than glibc's for buffers of 64 KB that come and go, each of which would be mapped anew.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    let command = match Command::read() {
        Ok(command) => command,
        Err(error) => {
            log("info");
            tracing::error!("{error}");
            return ExitCode::FAILURE;
        }
    };
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .expect("no other provider was installed before");
    let runtime = Runtime::new().expect("threads can be made");
    match perform(command.verb, &runtime) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn perform(verb: Verb, runtime: &Runtime) -> anyhow::Result<()> {
    match verb {
        Verb::Run(run) => {
            log(&run.place.log);
            let data_plane = DataPlane::begin().context("threads cannot be made")?;
            runtime.block_on(assemble::run(*run, data_plane.threads()))
        }
        Verb::Janitor(place) => {
            log(&place.log);
            runtime.block_on(assemble::janitor(place))
        }
        Verb::Restore(restore) => {
            log(&restore.place.log);
            runtime.block_on(assemble::restore(restore))
        }
        Verb::Version => {
            Ok(writeln!(std::io::stdout(), "fairlead-agent {}", env!("CARGO_PKG_VERSION"))?)
        }
    }
}

fn log(filter: &str) {
    let filter = tracing_subscriber::EnvFilter::try_new(filter).unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
}
