//! The hosts of the lab and how they find each other.

use std::{fmt, net::Ipv4Addr, str::FromStr};

/// One host of the lab: a network namespace on its bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Host {
    /// The developer's machine: it reaches the hub and nothing else.
    Laptop,
    /// Where the hub and the identity provider run.
    Hub,
    /// The Kubernetes API server and etcd.
    Api,
    /// The first worker.
    Node1,
    /// The second worker.
    Node2,
}

impl Host {
    /// Every host, in the order they are made.
    pub const ALL: [Self; 5] = [Self::Laptop, Self::Hub, Self::Api, Self::Node1, Self::Node2];
    /// Those that are no part of the cluster.
    pub const MACHINES: [Self; 2] = [Self::Laptop, Self::Hub];
    /// The workers.
    pub const NODES: [Self; 2] = [Self::Node1, Self::Node2];
    /// The names under which the hub and the identity provider are known everywhere.
    pub const HUB_NAMES: [&str; 2] = ["hub.fairlead.test", "idp.fairlead.test"];

    /// Returns the name that commands and namespaces use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Laptop => "laptop",
            Self::Hub => "hub",
            Self::Api => "api",
            Self::Node1 => "node1",
            Self::Node2 => "node2",
        }
    }

    /// Returns the address on the lab's bridge.
    pub fn address(self) -> Ipv4Addr {
        let last = match self {
            Self::Laptop => 1,
            Self::Hub => 2,
            Self::Api => 10,
            Self::Node1 => 11,
            Self::Node2 => 12,
        };
        Ipv4Addr::new(172, 30, 0, last)
    }

    /// Returns the range of pod addresses of a worker, `None` for the others.
    pub fn pod_range(self) -> Option<&'static str> {
        match self {
            Self::Node1 => Some("10.244.1.0/24"),
            Self::Node2 => Some("10.244.2.0/24"),
            Self::Laptop | Self::Hub | Self::Api => None,
        }
    }

    /// Returns the bridge's end of the cable to this host.
    pub fn port(self) -> String {
        format!("v-{}", self.name())
    }

    /// Says whether the host has mounts of its own; the API server needs none.
    pub(crate) fn is_furnished(self) -> bool {
        self != Self::Api
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Host {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|host| host.name() == name).ok_or_else(|| {
            let known = Self::ALL.map(Self::name).join(", ");
            anyhow::anyhow!("the lab has no host `{name}`; its hosts are {known}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_host_is_found_by_its_name() {
        for host in Host::ALL {
            assert_eq!(host.name().parse::<Host>().unwrap(), host);
        }
        assert!("router".parse::<Host>().is_err());
    }
}
