//! The only printer: data to stdout in the format that was asked for, everything else to stderr.

use std::io::{self, IsTerminal as _, Write as _};

use clap::ValueEnum;
use serde::Serialize;

use crate::{config::colour_is_welcome, errors::CliError};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Table,
    Json,
    Yaml,
}

/// Something a read verb shows: as data to programs, as text to people.
pub(crate) trait Shown: Serialize {
    fn to_text(&self) -> String;
}

#[derive(Debug)]
pub(crate) struct Output {
    format: Format,
    is_coloured: bool,
}

impl Output {
    pub(crate) fn new(format: Format) -> Self {
        Self { format, is_coloured: io::stderr().is_terminal() && colour_is_welcome() }
    }

    /// Prints the answer of a read verb.
    pub(crate) fn show(&self, shown: &impl Shown) -> Result<(), CliError> {
        let mut text = match self.format {
            Format::Table => shown.to_text(),
            Format::Json => serde_json::to_string_pretty(shown).expect("our views are plain JSON"),
            Format::Yaml => serde_saphyr::to_string(shown).expect("our views are plain YAML"),
        };
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes())?;
        Ok(stdout.flush()?)
    }

    /// Prints text that is data whatever the format: a completion script, the reference.
    pub(crate) fn raw(&self, text: &[u8]) -> Result<(), CliError> {
        Ok(io::stdout().lock().write_all(text)?)
    }

    /// Says what was done or is being done.
    pub(crate) fn say(&self, text: impl AsRef<str>) {
        // A closed stderr is no reason to stop.
        drop(writeln!(io::stderr().lock(), "{}", text.as_ref()));
    }

    pub(crate) fn warn(&self, text: impl AsRef<str>) {
        let label = if self.is_coloured { "\x1b[1;33mwarning:\x1b[0m" } else { "warning:" };
        self.say(format!("{label} {}", text.as_ref()));
    }
}
