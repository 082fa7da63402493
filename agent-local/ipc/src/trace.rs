//! What `fairlead trace` asks of the daemon, and the hops of its answer.

use std::time::Duration;

use fairlead_model::{Callee, ServicePort, TeamspaceId};
use serde::{Deserialize, Serialize};

use crate::FailureKind;

/// The service or host to which one probe shall go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wish {
    pub teamspace: TeamspaceId,
    #[serde(flatten)]
    pub callee: Callee,
    pub port: ServicePort,
}

/// The stations of a connection, in the order in which it passes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// How the name resolves on this laptop.
    Name,
    /// Whether a connection to it, or a datagram, arrives at the daemon.
    Redirect,
    /// There and back over the link.
    Hub,
    /// There and back over a carrier, end to end.
    Agent,
    /// The agent's own connection to the Service, or to the host.
    Service,
    /// The developer's port, where the service is intercepted.
    Laptop,
    /// The answer to a request, through all of it.
    Answer,
}

impl Place {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Redirect => "redirect",
            Self::Hub => "hub",
            Self::Agent => "agent",
            Self::Service => "service",
            Self::Laptop => "laptop",
            Self::Answer => "answer",
        }
    }
}

/// How one hop went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hop {
    pub hop: Place,
    #[serde(flatten)]
    pub outcome: Outcome,
    /// What a person reads.
    pub message: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Outcome {
    Passed {
        /// In microseconds; `None` where nobody has measured it.
        took_us: Option<u64>,
    },
    Failed {
        kind: FailureKind,
        /// What to do about it.
        advice: String,
    },
    /// It is of no concern here, or a hop before it is missing.
    NotTried,
}

impl Hop {
    #[must_use]
    pub fn passed(hop: Place, took: Option<Duration>, message: impl Into<String>) -> Self {
        let took_us = took.map(|took| u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        Self { hop, outcome: Outcome::Passed { took_us }, message: message.into() }
    }

    #[must_use]
    pub fn failed(
        hop: Place,
        kind: FailureKind,
        message: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        let outcome = Outcome::Failed { kind, advice: advice.into() };
        Self { hop, outcome, message: message.into() }
    }

    #[must_use]
    pub fn not_tried(hop: Place, message: impl Into<String>) -> Self {
        Self { hop, outcome: Outcome::NotTried, message: message.into() }
    }

    #[must_use]
    pub const fn has_passed(&self) -> bool {
        matches!(self.outcome, Outcome::Passed { .. })
    }
}
