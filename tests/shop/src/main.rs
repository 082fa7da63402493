//! Reads the command line, runs the role until it is told to stop, and turns an error into an exit code.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::Parser as _;
use shop::{args::CommandLine, run::run};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> ExitCode {
    let verb = CommandLine::parse().verb;
    let stop = CancellationToken::new();
    if let Err(error) = cancel_on_signal(stop.clone()) {
        return failed(&error.into());
    }
    match run(verb, stop, &mut io::stdout()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

/// SIGTERM is how the kubelet ends a pod, SIGINT how a developer does.
fn cancel_on_signal(stop: CancellationToken) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.cancel();
    });
    Ok(())
}

fn failed(error: &anyhow::Error) -> ExitCode {
    // There is nobody left to tell when stderr is gone.
    writeln!(io::stderr(), "error: {error:#}").ok();
    ExitCode::FAILURE
}
