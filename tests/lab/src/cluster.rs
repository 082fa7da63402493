//! The Kubernetes of a lab: two nodes that are made with it, or somebody's own, which is only talked to.
//!
//! This is the one type that knows the difference; whoever wants something of a cluster asks its methods.

use crate::{Host, another::Another, plan::ProxyMode, programs};
use anyhow::Context;
use serde::{Deserialize, Serialize};
use std::{net::Ipv4Addr, path::PathBuf, time::Duration};

/// Where images are that come from no registry: only on nodes that were given them.
pub(crate) const NOWHERE: &str = "docker.io/local";

/// Which Kubernetes a lab has.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cluster {
    /// Two nodes of the lab, which go with it.
    Ours(Ours),
    /// Another cluster, of which the lab is a guest.
    Another(Another),
}

/// How the lab's own nodes are to be, and the programs for them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Ours {
    pub(crate) proxy_mode: ProxyMode,
    /// How often kube-proxy may program Services; `None` is its own default of one second.
    pub(crate) min_sync_period_ms: Option<u64>,
    pub(crate) kube: PathBuf,
    /// The program that holds a pod's namespaces.
    pub(crate) pause: PathBuf,
    /// An archive of the image that answers names.
    pub(crate) coredns: PathBuf,
}

/// How pods name the image of one of our programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageName {
    pub repository: String,
    pub tag: String,
    /// Whether a node may fetch it.
    pub pull_policy: &'static str,
}

impl Cluster {
    /// Returns two nodes of the lab's own; builds Kubernetes when this machine has not built it yet.
    pub fn ours(proxy_mode: ProxyMode) -> anyhow::Result<Self> {
        Self::ours_paced(proxy_mode, None)
    }

    /// Returns nodes whose kube-proxy may program Services this often.
    pub fn ours_paced(
        proxy_mode: ProxyMode,
        min_sync_period: Option<Duration>,
    ) -> anyhow::Result<Self> {
        let in_ms = |period: Duration| u64::try_from(period.as_millis());
        Ok(Self::Ours(Ours {
            proxy_mode,
            min_sync_period_ms: min_sync_period
                .map(in_ms)
                .transpose()
                .context("that is longer than any lab lives")?,
            kube: programs::kube()?,
            pause: programs::sibling("fairlead-pause")?,
            coredns: programs::coredns_image()?,
        }))
    }

    /// Returns the hosts that a lab with this cluster has.
    pub fn hosts(&self) -> &'static [Host] {
        match self {
            Self::Ours(_) => &Host::ALL,
            Self::Another(_) => &Host::MACHINES,
        }
    }

    /// Says whether others work on the cluster, too: then what they change is theirs, and nothing but the namespaces
    /// of the lab's guests is looked at or served.
    pub fn is_shared(&self) -> bool {
        matches!(self, Self::Another(_))
    }

    /// Returns the range of pod addresses, where it is known.
    pub fn pod_network(&self) -> Option<&'static str> {
        match self {
            Self::Ours(_) => Some("10.244.0.0/16"),
            Self::Another(_) => None,
        }
    }

    /// Returns the address at which pods find the hub.
    pub fn hub_address(&self) -> Ipv4Addr {
        self.door().unwrap_or(Host::Hub.address())
    }

    /// Returns the address of this machine at which pods ask for the hub; `None` where they reach its host by themselves.
    pub fn door(&self) -> Option<Ipv4Addr> {
        match self {
            Self::Ours(_) => None,
            Self::Another(another) => Some(another.hub_address()),
        }
    }

    /// Returns how pods of this cluster name the image of a program of this workspace.
    pub fn image(&self, program: &str) -> anyhow::Result<ImageName> {
        match self {
            Self::Ours(_) => Ok(ImageName {
                repository: format!("{NOWHERE}/{program}"),
                tag: "dev".to_owned(),
                pull_policy: "IfNotPresent",
            }),
            Self::Another(another) => another.image(program),
        }
    }
}

impl ImageName {
    /// Returns the whole name.
    pub fn reference(&self) -> String {
        format!("{}:{}", self.repository, self.tag)
    }
}
