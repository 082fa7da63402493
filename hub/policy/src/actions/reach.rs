//! What a consume reaches: each service is consumed, and each host outside the cluster is reached by a permit of its own.

use super::{Action, Consume, Particulars};
use crate::{Caller, HostFacts, Resource, Verb};

/// Reach one port of a host outside the cluster from a laptop, through the cluster.
#[derive(Clone, Debug)]
pub struct ReachExternal {
    pub target: HostFacts,
}

impl Action for ReachExternal {
    fn verb(&self) -> Verb {
        Verb::ReachExternal
    }

    fn resource(&self, _: &Caller) -> Resource {
        Resource::Host(self.target.clone())
    }

    fn in_words(&self) -> String {
        let HostFacts { teamspace, host } = &self.target;
        format!("reach `{host}` through teamspace `{}`", teamspace.name)
    }
}

/// One of the things that a consume session reaches.
#[derive(Clone, Debug)]
pub enum Reach {
    Service(Consume),
    Host(ReachExternal),
}

impl Reach {
    /// Returns how it is called: `shop/cart`, `db.example.net:5432`.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Service(Consume { target, .. }) => target.service.to_string(),
            Self::Host(ReachExternal { target }) => target.host.to_string(),
        }
    }
}

impl Action for Reach {
    fn verb(&self) -> Verb {
        match self {
            Self::Service(consume) => consume.verb(),
            Self::Host(reach) => reach.verb(),
        }
    }

    fn resource(&self, caller: &Caller) -> Resource {
        match self {
            Self::Service(consume) => consume.resource(caller),
            Self::Host(reach) => reach.resource(caller),
        }
    }

    fn in_words(&self) -> String {
        match self {
            Self::Service(consume) => consume.in_words(),
            Self::Host(reach) => reach.in_words(),
        }
    }

    fn particulars(&self) -> Particulars {
        match self {
            Self::Service(consume) => consume.particulars(),
            Self::Host(reach) => reach.particulars(),
        }
    }
}
