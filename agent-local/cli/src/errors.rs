//! From an error to what a person reads and what a script sees: the one place that knows exit codes.

use std::{
    io::{self, IsTerminal as _, Write as _},
    process::ExitCode,
};

use fairlead_model::InvalidProxySettings;
use laptop_account::AccountError;
use laptop_ipc::{Failure, FailureKind};

use crate::config::colour_is_welcome;

/// Shown in the help and in the reference.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
   0  done
   1  something inside Fairlead went wrong
  20  the command or its input is not valid
  30  denied by a policy            31  not signed in
  40  the hub cannot be reached     41  the hub or a cluster is not trusted
  42  the hub answers in a way that this version does not understand
  50  there is no such thing        51  it is in conflict with something else
  60  names or redirects of this laptop could not be changed
  70  it has begun, and is not proven to work yet
  80  the daemon does not run       81  the supervisor does not run or failed
  82  daemon, supervisor or hub are of another version
  90  not everything could be taken back
 126  the program of `run` could not be started
 127  the program of `run` was not found
 130  interrupted";

#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    #[error(transparent)]
    Failure(#[from] Failure),
    #[error("the daemon is not running")]
    NoDaemon,
    #[error("could not write the output: {0}")]
    Output(#[from] io::Error),
    #[error("interrupted")]
    Interrupted,
    /// Another process of ours has said what and why.
    #[error("already said")]
    Said(FailureKind),
    #[error("`{program}` could not be started: {source}")]
    NotStarted { program: String, source: io::Error },
}

impl From<AccountError> for CliError {
    fn from(error: AccountError) -> Self {
        Self::Failure(error.into())
    }
}

impl From<InvalidProxySettings> for CliError {
    fn from(error: InvalidProxySettings) -> Self {
        let variable = error.variable.clone();
        let hint =
            format!("set it right, or take it away: unset {variable} {}", variable.to_lowercase());
        Self::new(FailureKind::Input, error.to_string(), hint)
    }
}

impl CliError {
    pub(crate) fn new(
        kind: FailureKind,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self::Failure(Failure::new(kind, message).hint(hint))
    }

    fn hint(&self) -> Option<&str> {
        match self {
            Self::Failure(failure) => failure.hint.as_deref(),
            Self::NoDaemon => Some("start it: fairlead start"),
            Self::Output(_) | Self::Interrupted | Self::Said(_) | Self::NotStarted { .. } => None,
        }
    }

    fn exit_code(&self) -> u8 {
        match self {
            // Whoever reads our output has read enough.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => 0,
            Self::Output(_) => 1,
            Self::NoDaemon => 80,
            Self::Interrupted => 130,
            // As shells have it.
            Self::NotStarted { source, .. } if source.kind() == io::ErrorKind::NotFound => 127,
            Self::NotStarted { .. } => 126,
            Self::Said(kind) | Self::Failure(Failure { kind, .. }) => match kind {
                FailureKind::Internal => 1,
                FailureKind::Input => 20,
                FailureKind::Denied => 30,
                FailureKind::SignedOut => 31,
                FailureKind::HubUnreachable => 40,
                FailureKind::HubUntrusted => 41,
                FailureKind::HubFaulty => 42,
                FailureKind::NotFound => 50,
                FailureKind::Conflict => 51,
                FailureKind::LaptopNetwork => 60,
                FailureKind::Unproven => 70,
                FailureKind::Supervisor => 81,
                FailureKind::Version => 82,
                FailureKind::Cleanup => 90,
            },
        }
    }
}

/// Writes the error to stderr and returns its code.
pub(crate) fn report(error: &CliError) -> ExitCode {
    let code = error.exit_code();
    if code != 0 && !matches!(error, CliError::Said(_)) {
        let mut stderr = io::stderr().lock();
        let [label, hint] = labels(stderr.is_terminal() && colour_is_welcome());
        // Nobody is left to tell when stderr is closed.
        drop(writeln!(stderr, "{label} {error}"));
        if let Some(text) = error.hint() {
            drop(writeln!(stderr, "{hint} {text}"));
        }
    }
    ExitCode::from(code)
}

const fn labels(coloured: bool) -> [&'static str; 2] {
    if coloured {
        ["\x1b[1;31merror:\x1b[0m", "\x1b[1;36mhint:\x1b[0m"]
    } else {
        ["error:", "hint:"]
    }
}

/// Shows a usage error, or the help that was asked for.
pub(crate) fn report_usage(usage: &clap::Error) -> ExitCode {
    // clap picks the stream; a closed one has no reader to tell.
    drop(usage.print());
    ExitCode::from(if usage.use_stderr() { 20 } else { 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_documented() {
        let documented: Vec<u8> =
            EXIT_CODES.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let kinds = [
            FailureKind::Input,
            FailureKind::SignedOut,
            FailureKind::Denied,
            FailureKind::HubUnreachable,
            FailureKind::HubUntrusted,
            FailureKind::HubFaulty,
            FailureKind::NotFound,
            FailureKind::Conflict,
            FailureKind::LaptopNetwork,
            FailureKind::Supervisor,
            FailureKind::Version,
            FailureKind::Cleanup,
            FailureKind::Unproven,
            FailureKind::Internal,
        ];
        let failures = kinds.map(|kind| CliError::Failure(Failure::new(kind, "")));
        let not_started = [io::ErrorKind::NotFound, io::ErrorKind::PermissionDenied]
            .map(|kind| CliError::NotStarted { program: "ls".to_owned(), source: kind.into() });
        let others = [CliError::NoDaemon, CliError::Interrupted].into_iter().chain(not_started);
        for error in failures.into_iter().chain(others) {
            assert!(documented.contains(&error.exit_code()), "{error:?}");
        }
    }

    #[test]
    fn a_reader_that_has_read_enough_is_no_error() {
        let error = CliError::Output(io::ErrorKind::BrokenPipe.into());
        assert_eq!(error.exit_code(), 0);
    }
}
