//! The load of `bench tunnel` and the service that takes it: small, so that what is measured is what lies between them.
//!
//! The two ends are one program and speak by first bytes (`kind`). What an end found is one JSON object on standard
//! output. Not here: which load is put on what, and what the figures mean.

mod ask;
mod bulk;
mod connect;
mod hold;
mod http;
mod relay;
mod serve;
mod spread;

use std::{
    io::{self, Write},
    net::SocketAddr,
    process::ExitCode,
    time::Duration,
};

use clap::{Args, Parser, Subcommand};
use fairlead_tests::kind;

use bulk::Way;

#[derive(Debug, Parser)]
struct Load {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Answers every kind of load until it is killed
    Serve { listen: SocketAddr },
    /// Moves as many bytes as will pass, on several streams
    Bulk {
        to: SocketAddr,
        way: Way,
        #[arg(long, default_value_t = 1)]
        streams: usize,
        #[command(flatten)]
        time: Time,
    },
    /// Asks for 1 KB again and again on one connection
    Ask {
        to: SocketAddr,
        #[command(flatten)]
        time: Time,
    },
    /// Opens connections for one byte each, one after the other on each thread
    Connect {
        to: SocketAddr,
        #[arg(long, default_value_t = 1)]
        threads: usize,
        #[command(flatten)]
        time: Time,
    },
    /// Asks by HTTP/1.1
    Http {
        to: SocketAddr,
        #[arg(long, default_value_t = 1)]
        threads: usize,
        /// One request per connection
        #[arg(long)]
        close: bool,
        #[command(flatten)]
        time: Time,
    },
    /// Opens streams that have said 1 KB, and holds them until its input ends
    Idle { to: SocketAddr, streams: usize },
    /// Opens downloads that are never read, and holds them until its input ends
    Stall { to: SocketAddr, streams: usize },
    /// Says what silent pairs cost the hub's relay, in KB each, batch by batch
    Relay { pairs: usize },
}

#[derive(Debug, Clone, Copy, Args)]
struct Time {
    /// Before anything counts
    #[arg(long, value_name = "MS", default_value = "0", value_parser = ms)]
    warm_ms: Duration,
    #[arg(long, value_name = "MS", value_parser = ms)]
    for_ms: Duration,
}

fn ms(text: &str) -> Result<Duration, std::num::ParseIntError> {
    text.parse().map(Duration::from_millis)
}

fn main() -> ExitCode {
    match perform(Load::parse().verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let told = writeln!(io::stderr(), "error: {error:#}");
            if told.is_ok() { ExitCode::FAILURE } else { ExitCode::from(2) }
        }
    }
}

fn perform(verb: Verb) -> anyhow::Result<()> {
    match verb {
        Verb::Serve { listen } => serve::serve(listen),
        Verb::Bulk { to, way, streams, time } => tell(&bulk::move_bytes(to, way, streams, time)?),
        Verb::Ask { to, time } => tell(&ask::ask(to, time)?),
        Verb::Connect { to, threads, time } => tell(&connect::connect(to, threads, time)?),
        Verb::Http { to, threads, close, time } => tell(&http::ask(to, threads, close, time)?),
        Verb::Idle { to, streams } => hold::hold(&hold::idle(to, streams)?),
        Verb::Relay { pairs } => tell(&relay::memory_of_pairs(pairs)?),
        Verb::Stall { to, streams } => hold::hold(&hold::stalled(to, streams)?),
    }
}

fn tell(found: &impl serde::Serialize) -> anyhow::Result<()> {
    Ok(writeln!(io::stdout(), "{}", serde_json::to_string(found)?)?)
}
