//! Sessions: who may consume, who may intercept, and who may end what somebody began.

use fairlead_model::{InterceptPort, ServicePort, SessionId, UserId};

use super::{Action, Particulars};
use crate::{Caller, Resource, ServiceFacts, TeamspaceFacts, Verb};

/// Reach these ports of one service from a laptop.
#[derive(Clone, Debug)]
pub struct Consume {
    pub target: ServiceFacts,
    pub ports: Vec<ServicePort>,
}

impl Action for Consume {
    fn verb(&self) -> Verb {
        Verb::Consume
    }

    fn resource(&self, _: &Caller) -> Resource {
        Resource::Service(self.target.clone())
    }

    fn in_words(&self) -> String {
        format!("consume `{}` in teamspace `{}`", self.target.service, self.target.teamspace.name)
    }
}

/// Answer a service's requests on a laptop.
#[derive(Clone, Debug)]
pub struct Intercept {
    pub target: ServiceFacts,
    pub ports: Vec<InterceptPort>,
    pub grace_s: u32,
}

impl Action for Intercept {
    fn verb(&self) -> Verb {
        Verb::Intercept
    }

    fn resource(&self, _: &Caller) -> Resource {
        Resource::Service(self.target.clone())
    }

    fn in_words(&self) -> String {
        format!("intercept `{}` in teamspace `{}`", self.target.service, self.target.teamspace.name)
    }

    fn particulars(&self) -> Particulars {
        Particulars::Intercept { header_filtered: false, grace_s: i64::from(self.grace_s) }
    }
}

/// See one session. Everybody sees their own.
#[derive(Clone, Debug)]
pub struct SeeSession {
    pub session: SessionId,
    pub owner: UserId,
    pub teamspace: TeamspaceFacts,
}

impl Action for SeeSession {
    fn verb(&self) -> Verb {
        Verb::See
    }

    fn resource(&self, _: &Caller) -> Resource {
        Resource::Session { id: self.session, owner: self.owner, teamspace: self.teamspace.clone() }
    }

    fn in_words(&self) -> String {
        format!("see session `{}`", self.session)
    }
}

/// End one session. Everybody ends their own.
#[derive(Clone, Debug)]
pub struct EndSession {
    pub session: SessionId,
    pub owner: UserId,
    pub teamspace: TeamspaceFacts,
}

impl Action for EndSession {
    fn verb(&self) -> Verb {
        Verb::EndSessions
    }

    fn resource(&self, _: &Caller) -> Resource {
        Resource::Session { id: self.session, owner: self.owner, teamspace: self.teamspace.clone() }
    }

    fn in_words(&self) -> String {
        "end somebody else's session".to_owned()
    }
}
