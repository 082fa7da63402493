//! What a lab shall be: chosen by whoever starts it, handed down to `keep` and `init` as one line of JSON.

use crate::Cluster;
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// What can be chosen about a lab.
#[derive(Debug, Clone)]
pub struct Options {
    /// Names the lab; two labs with different names run side by side.
    pub name: String,
    /// Its Kubernetes.
    pub cluster: Cluster,
    /// Whether the lab goes when the process that started it goes, however that happens.
    pub ends_with_me: bool,
}

/// How kube-proxy programs Services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProxyMode {
    /// kube-proxy's default.
    Iptables,
    /// The newer one.
    Nftables,
}

impl ProxyMode {
    /// Returns the name that kube-proxy knows.
    pub fn name(self) -> &'static str {
        match self {
            Self::Iptables => "iptables",
            Self::Nftables => "nftables",
        }
    }
}

impl FromStr for ProxyMode {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        [Self::Iptables, Self::Nftables]
            .into_iter()
            .find(|mode| mode.name() == name)
            .ok_or_else(|| anyhow::anyhow!("no proxy mode `{name}`: iptables or nftables"))
    }
}

/// What the lab's own processes are told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) name: String,
    pub(crate) cluster: Cluster,
    pub(crate) search_path: String,
}

/// Where a running lab is to be found.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) keeper: i32,
    pub(crate) init: i32,
    pub(crate) plan: Plan,
}

/// What the lab says while it starts, one JSON object a line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum News {
    /// A step began.
    Begun(String),
    /// The step that began last is done.
    Done,
    /// The lab is usable.
    Ready,
    /// It will not be; the text says why.
    Failed(String),
}
