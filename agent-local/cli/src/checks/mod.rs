//! What `fairlead doctor` looks at on this machine. Each check is a pure function from what it read to a finding.

pub(crate) mod hosts_file;
pub(crate) mod proxies;
pub(crate) mod resolving;
pub(crate) mod rooms;

use laptop_ipc::FailureKind;
use serde::Serialize;

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    Ok,
    /// It works; this is good to know when something does not.
    Warning,
    Problem,
}

/// One thing that was looked at, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    pub(crate) check: &'static str,
    pub(crate) state: State,
    pub(crate) message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) advice: Option<String>,
    /// Of a problem: what kind it is, for the exit code.
    #[serde(skip)]
    pub(crate) kind: Option<FailureKind>,
}

impl Finding {
    pub(crate) fn ok(check: &'static str, message: impl Into<String>) -> Self {
        Self { check, state: State::Ok, message: message.into(), advice: None, kind: None }
    }

    pub(crate) fn warning(
        check: &'static str,
        message: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        let advice = Some(advice.into());
        Self { check, state: State::Warning, message: message.into(), advice, kind: None }
    }

    pub(crate) fn problem(
        check: &'static str,
        kind: FailureKind,
        message: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        let advice = Some(advice.into());
        Self { check, state: State::Problem, message: message.into(), advice, kind: Some(kind) }
    }
}
