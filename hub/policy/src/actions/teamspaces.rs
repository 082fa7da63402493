//! Teamspaces: who may see, make and delete them.

use super::Action;
use crate::{Caller, Resource, TeamspaceFacts, TeamspaceName, Verb};

#[derive(Clone, Debug)]
pub struct SeeTeamspace {
    pub teamspace: TeamspaceFacts,
}

impl Action for SeeTeamspace {
    fn verb(&self) -> Verb {
        Verb::See
    }

    fn resource(&self, _: &Caller) -> Resource {
        Resource::Teamspace(self.teamspace.clone())
    }

    fn in_words(&self) -> String {
        format!("see teamspace `{}`", self.teamspace.name)
    }
}

#[derive(Clone, Debug)]
pub struct CreateTeamspace {
    pub name: TeamspaceName,
}

impl Action for CreateTeamspace {
    fn verb(&self) -> Verb {
        Verb::ManageTeamspaces
    }

    fn resource(&self, caller: &Caller) -> Resource {
        Resource::Organization(caller.org)
    }

    fn in_words(&self) -> String {
        "create teamspaces".to_owned()
    }
}

#[derive(Clone, Debug)]
pub struct DeleteTeamspace {
    pub teamspace: TeamspaceFacts,
}

impl Action for DeleteTeamspace {
    fn verb(&self) -> Verb {
        Verb::ManageTeamspaces
    }

    fn resource(&self, _: &Caller) -> Resource {
        Resource::Teamspace(self.teamspace.clone())
    }

    fn in_words(&self) -> String {
        format!("delete teamspace `{}`", self.teamspace.name)
    }
}

/// Let a teamspace go on that was locked because its key was seen in two clusters.
#[derive(Clone, Debug)]
pub struct UnlockTeamspace {
    pub teamspace: TeamspaceFacts,
}

impl Action for UnlockTeamspace {
    fn verb(&self) -> Verb {
        Verb::ManageTeamspaces
    }

    fn resource(&self, _: &Caller) -> Resource {
        Resource::Teamspace(self.teamspace.clone())
    }

    fn in_words(&self) -> String {
        format!("unlock teamspace `{}`", self.teamspace.name)
    }
}

/// Forget the cluster that joined a teamspace, so that another one may.
#[derive(Clone, Debug)]
pub struct ResetEnrolment {
    pub teamspace: TeamspaceFacts,
}

impl Action for ResetEnrolment {
    fn verb(&self) -> Verb {
        Verb::ManageTeamspaces
    }

    fn resource(&self, _: &Caller) -> Resource {
        Resource::Teamspace(self.teamspace.clone())
    }

    fn in_words(&self) -> String {
        format!("reset the enrolment of teamspace `{}`", self.teamspace.name)
    }
}
