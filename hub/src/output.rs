//! What the program says: results on stdout, log lines and errors on stderr.

use std::io::{self, IsTerminal, Write};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;

/// Sends log lines to stderr. `RUST_LOG` says more or less of them.
pub fn start_log(format: LogFormat) {
    // What sqlx calls information are the notices of Postgres.
    let quieter = "sqlx=warn".parse().expect("a directive");
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .from_env_lossy()
        .add_directive(quieter);
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match format {
        LogFormat::Text => lines.with_ansi(io::stderr().is_terminal()).init(),
        LogFormat::Json => lines.json().init(),
    }
}

/// Writes what was asked for to stdout. A reader that has gone away is no failure.
pub fn say(text: &str) -> anyhow::Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

/// Writes why the program ends to stderr.
pub fn say_error(error: &str) {
    // Nobody is left to be told when stderr is closed.
    drop(writeln!(io::stderr(), "error: {error}"));
}
