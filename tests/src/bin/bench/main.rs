//! `cargo xtask bench NAME`: figures with gates, measured on the real parts. One file per bench.

mod consume;
mod intercept;
mod loss;
mod revoke;
mod stage;
mod tunnel;

use std::{
    io::{self, BufRead, Write},
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand};
use fairlead_lab::ProxyMode;
use fairlead_tests::{Figure, Machine, Report, print_figures, record};

#[derive(Debug, Parser)]
struct Bench {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    how: How,
}

#[derive(Debug, Subcommand)]
enum What {
    Consume,
    Intercept,
    Loss,
    Revoke,
    Tunnel,
    /// Reads the figures of a bench as it prints them with `--json`, keeps them, and shows them
    Record {
        bench: String,
        /// What has to be known of the run
        #[arg(long)]
        note: Option<String>,
    },
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
        What::Consume => consume::bench(how.rounds),
        What::Intercept => intercept::bench(how.proxy_mode, how.rounds),
        What::Loss => loss::bench(how.proxy_mode, how.rounds),
        What::Revoke => revoke::bench(how.rounds),
        What::Tunnel => tunnel::bench(how.rounds),
        What::Record { bench, note } => keep(&bench, note),
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

/// Keeps what standard input says that a bench found on this machine today.
fn keep(bench: &str, note: Option<String>) -> anyhow::Result<Vec<Figure>> {
    let read = |line: io::Result<String>| Ok(serde_json::from_str(&line?)?);
    let figures = io::stdin().lock().lines().map(read).collect::<anyhow::Result<Vec<Figure>>>()?;
    let date = jiff::Timestamp::now().strftime("%Y-%m-%d").to_string();
    let report = Report { date, machine: Machine::at_hand()?, note, figures: figures.clone() };
    record(bench, &report)?;
    Ok(figures)
}
