//! The laptop daemon: one per user, unprivileged. It keeps the link to the hub, the carriers to the cluster, and the
//! sessions that should be; it changes nothing of the machine, the supervisor does that for it.

mod alone;
mod arrivals;
mod attempts;
mod carriers;
mod commands;
mod config;
mod connections;
mod consume;
mod datagrams;
mod desired;
mod dns;
mod doors;
mod early_ends;
mod echoes;
mod footing;
mod footprint;
mod granted;
mod hearing;
mod intercept;
mod keeper;
mod knocks;
mod link;
mod listeners;
mod moves;
mod names;
mod offers;
mod original;
mod orphans;
mod probe;
mod program;
mod proof;
mod restore;
mod run;
mod session;
mod sessions;
#[cfg(test)]
mod stage;
mod trace;
mod tunnel;
mod ways;

use std::process::ExitCode;

use clap::Parser as _;
use config::Args;
use mimalloc::MiMalloc;
use nix::sys::signal::SigSet;
use tracing::error;

/// Less processor time than glibc's for buffers of 64 KB that come and go, each of which would be mapped anew.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Bytes that applications of this laptop have not read yet, over all streams. In memory they take a fifth more.
const UNREAD_MAX_BYTES: usize = 32 << 20;

fn main() -> ExitCode {
    let args = Args::parse();
    // The supervisor waits for signals with all of them blocked, and a child inherits that.
    SigSet::all().thread_unblock().expect("the calling thread has a mask");
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .expect("nothing else installs a provider");
    laptop_ipc::descriptors::allow_all();
    fairlead_tunnel::unread::cap_at(UNREAD_MAX_BYTES);
    match run::run(args) {
        Ok(code) => code,
        Err(failure) => {
            error!("{failure:#}");
            ExitCode::FAILURE
        }
    }
}
