//! Sessions: what kinds there are, and what can be seen of one.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::Port;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SessionKind {
    /// Laptop to cluster.
    Consume,
    /// Cluster to laptop.
    Intercept,
}

impl SessionKind {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Consume => "consume",
            Self::Intercept => "intercept",
        }
    }
}

impl fmt::Display for SessionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What is seen of a session, in the order in which it usually happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// The redirect or the carriers are being made.
    Preparing,
    /// A probe has passed through the whole path.
    Active,
    /// The laptop does not answer; requests go to the pods.
    Away,
    /// Somebody else keeps removing the redirect.
    Contested,
    /// Refused by preflight, before anything was changed.
    Refused,
    /// Over; what was changed is given back.
    Ended,
}

impl Phase {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Preparing => "preparing",
            Self::Active => "active",
            Self::Away => "away",
            Self::Contested => "contested",
            Self::Refused => "refused",
            Self::Ended => "ended",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a port mapping: write `LAPTOP_PORT` or `LAPTOP_PORT:SERVICE_PORT`")]
pub struct InvalidInterceptPort {
    text: String,
}

/// One port of an intercepted Service and the port on the laptop that takes its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct InterceptPort {
    pub service_port: Port,
    pub laptop_port: Port,
}

impl FromStr for InterceptPort {
    type Err = InvalidInterceptPort;

    /// Reads `laptop:service`.
    fn from_str(text: &str) -> Result<Self, InvalidInterceptPort> {
        let invalid = || InvalidInterceptPort { text: text.to_owned() };
        let (laptop, service) = text.split_once(':').ok_or_else(invalid)?;
        Ok(Self {
            laptop_port: laptop.parse().map_err(|_| invalid())?,
            service_port: service.parse().map_err(|_| invalid())?,
        })
    }
}
