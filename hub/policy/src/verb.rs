//! The verbs policies speak of. Their names are those of the Cedar schema.

use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    See,
    Consume,
    Intercept,
    ReachExternal,
    ViewActivity,
    ManageOrganization,
    ManageMembers,
    ManageRoles,
    ManagePolicies,
    ManageTeamspaces,
    ManageTokens,
    RemoveDevice,
    EndSessions,
    ReadAudit,
}

impl Verb {
    pub const ALL: [Self; 14] = [
        Self::See,
        Self::Consume,
        Self::Intercept,
        Self::ReachExternal,
        Self::ViewActivity,
        Self::ManageOrganization,
        Self::ManageMembers,
        Self::ManageRoles,
        Self::ManagePolicies,
        Self::ManageTeamspaces,
        Self::ManageTokens,
        Self::RemoveDevice,
        Self::EndSessions,
        Self::ReadAudit,
    ];

    /// Returns the name of the Cedar action.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::See => "see",
            Self::Consume => "consume",
            Self::Intercept => "intercept",
            Self::ReachExternal => "reachExternal",
            Self::ViewActivity => "viewActivity",
            Self::ManageOrganization => "manageOrganization",
            Self::ManageMembers => "manageMembers",
            Self::ManageRoles => "manageRoles",
            Self::ManagePolicies => "managePolicies",
            Self::ManageTeamspaces => "manageTeamspaces",
            Self::ManageTokens => "manageTokens",
            Self::RemoveDevice => "removeDevice",
            Self::EndSessions => "endSessions",
            Self::ReadAudit => "readAudit",
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
