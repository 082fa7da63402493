//! The fairlead command, as the developer runs it: parse, do one verb, exit with its code.

mod args;
mod bundle;
mod checks;
mod commands;
mod config;
mod errors;
mod hops;
mod inside;
mod output;
mod parts;
mod redact;
mod reference;
mod table;
mod target;
mod traced;

use std::process::ExitCode;

use args::{Args, Verb};
use clap::Parser as _;
use output::Output;

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(usage) => return errors::report_usage(&usage),
    };
    if let Verb::Inside(inside) = args.verb {
        // Before there is any other thread: a process with two cannot have a user namespace of its own.
        return inside::run(&inside)
            .map_or_else(|error| errors::report(&error), |()| ExitCode::SUCCESS);
    }
    let output = Output::new(args.output);
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .expect("nothing else installs a provider");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("the operating system gives an event loop");
    match runtime.block_on(commands::run(args, &output)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => errors::report(&error),
    }
}
