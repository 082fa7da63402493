//! What the supervisor is asked. It acts for the uid that asks, and for no other.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    path::PathBuf,
};

use fairlead_model::{Callee, Port, ServicePort, TeamspaceId, TeamspaceLabel};
use serde::{Deserialize, Serialize};

use crate::Failure;

/// Below it are the names of teamspaces that stand beside the one with the cluster's names.
pub const DOMAIN: &str = "fairlead";
/// The domain of the cluster's own names.
pub const CLUSTER_DOMAIN: &str = "cluster.local";

/// A cluster of 5,000 services has room, and what stands in it already. A hosts file of so many names is read in
/// milliseconds, and as many fit one grant.
pub const SERVICES_MAX: usize = 6_000;
pub const PORTS_MAX: usize = 10_000;
/// Each UDP port takes a socket.
pub const DATAGRAM_PORTS_MAX: usize = 256;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum Request {
    /// Start the caller's daemon, unless it runs.
    Start(DaemonFolders),
    /// Make the folder in which the caller's own daemon puts its socket.
    Prepare,
    /// End the caller's daemon and remove the caller's footprint.
    Stop,
    Status,
    /// The caller is the daemon: answer, then pass its listener. While this connection lives, so may a footprint.
    /// The folders are for starting it again, should it die.
    Attach(DaemonFolders),
    /// Make the caller's footprint be exactly this. Only after `Attach`, on the same connection.
    Set {
        services: Vec<Reached>,
        /// Where connections cannot be redirected, a port that is taken may be another one on this laptop.
        #[serde(default)]
        may_remap: bool,
    },
    /// Remove what stands for the caller and what no live daemon wants any more, and say what it was; for root, remove
    /// everything of everybody. With `dry_run` only say it.
    Cleanup {
        dry_run: bool,
    },
}

/// The folders of the user in which the daemon keeps its things.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DaemonFolders {
    pub config: PathBuf,
    pub state: PathBuf,
}

/// One service, one pod of a headless one, or one host outside the cluster, that the user wants to reach by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reached {
    pub teamspace: TeamspaceId,
    pub callee: Callee,
    pub ports: Vec<ServicePort>,
    /// Whether the bare name `cart` leads to it, too.
    pub is_home: bool,
    /// Its teamspace, where another one has the cluster's names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beside: Option<TeamspaceLabel>,
}

/// Returns the names that a service or a pod has in its cluster, the shortest first; of a host outside it the one it has.
#[must_use]
pub fn cluster_names(callee: &Callee, is_home: bool) -> Vec<String> {
    let name = callee.dns_name();
    let Callee::InCluster { service, .. } = callee else { return vec![name] };
    let bare = name.strip_suffix(service.namespace.as_str()).and_then(|n| n.strip_suffix('.'));
    let bare = bare.filter(|_| is_home).map(str::to_owned);
    let longer = [format!("{name}.svc"), format!("{name}.svc.{CLUSTER_DOMAIN}")];
    bare.into_iter().chain([name]).chain(longer).collect()
}

impl Reached {
    /// Returns every name that leads to it, the shortest first.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        match self.beside {
            Some(_) => vec![self.short_name()],
            None => cluster_names(&self.callee, self.is_home),
        }
    }

    /// Returns `cart.shop` or `db.example.net`, or `cart.shop.staging.fairlead` where another teamspace has the cluster's names.
    #[must_use]
    pub fn short_name(&self) -> String {
        let name = self.callee.dns_name();
        match &self.beside {
            Some(teamspace) => format!("{name}.{teamspace}.{DOMAIN}"),
            None => name,
        }
    }

    /// Returns the name that no other can be taken for.
    #[must_use]
    pub fn full_name(&self) -> String {
        match (&self.beside, &self.callee) {
            (Some(_), _) | (None, Callee::Outside { .. }) => self.short_name(),
            (None, Callee::InCluster { .. }) => {
                format!("{}.svc.{CLUSTER_DOMAIN}", self.short_name())
            }
        }
    }
}

/// One listener in the place of a redirect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listening {
    /// The service's address and port.
    pub destination: SocketAddrV4,
    /// Where it listens: the same, or another port where that one is taken.
    pub on: SocketAddrV4,
    pub is_new: bool,
}

/// Whether the machine's own resolver asks the laptop's DNS server for names of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "systemd_resolved", rename_all = "snake_case")]
pub enum SplitDns {
    Asks,
    /// There is none that could.
    Absent,
    Refused {
        why: String,
    },
}

pub type Reply = Result<Answer, Failure>;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    Started {
        pid: u32,
        was_running: bool,
    },
    Stopped {
        was_running: bool,
    },
    Status {
        version: String,
        pid: u32,
        daemon: Option<u32>,
        services: usize,
        /// What another program keeps changing, so that it is not put back any more for a while.
        #[serde(default)]
        contested: Option<String>,
    },
    /// The listener follows as a descriptor. A connection of the user to the canary arrives there, too.
    Attached {
        canary: Ipv4Addr,
        canary_port: Port,
    },
    /// The addresses, in the order of the services.
    Set {
        addresses: Vec<Ipv4Addr>,
        /// Where connections cannot be redirected, the listeners: each that is new follows as a descriptor, in their
        /// order.
        #[serde(default)]
        listeners: Option<Vec<Listening>>,
        /// What has a socket for UDP. Of those in `passed` the sockets follow as descriptors, in this order, after the
        /// listeners; the others were passed before.
        #[serde(default)]
        datagrams: Vec<SocketAddrV4>,
        #[serde(default)]
        passed: Vec<SocketAddrV4>,
        /// After these follow the sockets of the laptop's DNS server: of UDP, then the listener of TCP.
        #[serde(default)]
        passes_dns: bool,
        /// Why some names are not resolved on this machine; `None` when all are, or nothing is reached.
        #[serde(default)]
        dns_refusal: Option<String>,
        /// `None` when the DNS server does not answer, or nothing is reached.
        #[serde(default)]
        split_dns: Option<SplitDns>,
    },
    Residue {
        found: Vec<String>,
    },
    Done,
}
