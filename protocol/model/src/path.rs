//! Which way a carrier takes to the relay, as people are shown it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a half of a carrier runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// TCP to the relay's own port.
    Raw,
    /// A WebSocket at the hub's address.
    Wss,
}

/// The way one half of a carrier takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CarrierPath {
    pub transport: Transport,
    /// `host:port` of the proxy it goes through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<String>,
}

impl fmt::Display for CarrierPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.transport {
            Transport::Raw => "raw",
            Transport::Wss => "wss",
        })?;
        match &self.proxy {
            Some(proxy) => write!(f, " through proxy {proxy}"),
            None => Ok(()),
        }
    }
}
