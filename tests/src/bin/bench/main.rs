//! `cargo xtask bench NAME`: figures with gates, measured on the real parts of one world. One file per bench.

mod intercept;
mod loss;
mod stage;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand};
use fairlead_lab::ProxyMode;
use fairlead_tests::print_figures;

#[derive(Debug, Parser)]
struct Bench {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    how: How,
}

#[derive(Debug, Subcommand)]
enum What {
    Intercept,
    Loss,
}

#[derive(Debug, Args)]
struct How {
    /// One JSON object per figure
    #[arg(long, global = true)]
    json: bool,
    #[arg(long, global = true, default_value = "iptables")]
    proxy_mode: ProxyMode,
    /// How often everything is done; each bench has a number of its own
    #[arg(long, global = true, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: Option<u32>,
}

fn main() -> ExitCode {
    let Bench { what, how } = Bench::parse();
    let figures = match what {
        What::Intercept => intercept::bench(how.proxy_mode, how.rounds),
        What::Loss => loss::bench(how.proxy_mode, how.rounds),
    };
    match figures.and_then(|figures| {
        print_figures(&figures, how.json, &mut io::stdout().lock())?;
        Ok(figures.iter().all(|figure| figure.holds))
    }) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let told = writeln!(io::stderr(), "error: {error:#}");
            if told.is_ok() { ExitCode::FAILURE } else { ExitCode::from(2) }
        }
    }
}
