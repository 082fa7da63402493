//! The caller: somebody authenticated, always with an organization, and the roles that were bound to them.

use std::{fmt, net::IpAddr, str::FromStr};

use fairlead_model::{OrgId, TeamspaceId, UserId};
use serde::{Deserialize, Serialize};

/// The five built-in roles, the most powerful first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Owner,
    Admin,
    Auditor,
    Developer,
    Viewer,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a role (owner, admin, auditor, developer, viewer)")]
pub struct InvalidRole {
    text: String,
}

impl Role {
    pub const ALL: [Self; 5] =
        [Self::Owner, Self::Admin, Self::Auditor, Self::Developer, Self::Viewer];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Admin => "admin",
            Self::Auditor => "auditor",
            Self::Developer => "developer",
            Self::Viewer => "viewer",
        }
    }

    /// Returns what a person reads about the role.
    #[must_use]
    pub const fn description(self) -> &'static str {
        match self {
            Self::Owner => "May do everything, and decides who else is an owner",
            Self::Admin => {
                "Runs the organization: members, teamspaces, policies, sessions; not its owners"
            }
            Self::Auditor => "Sees everything and reads the audit log; changes nothing",
            Self::Developer => "Consumes and intercepts services",
            Self::Viewer => "Sees teamspaces, services and who is doing what",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Role {
    type Err = InvalidRole;

    fn from_str(text: &str) -> Result<Self, InvalidRole> {
        Self::ALL
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| InvalidRole { text: text.to_owned() })
    }
}

/// A role as somebody holds it: everywhere in the organization, or in one teamspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RoleBinding {
    pub role: Role,
    pub teamspace: Option<TeamspaceId>,
}

impl RoleBinding {
    #[must_use]
    pub const fn everywhere(role: Role) -> Self {
        Self { role, teamspace: None }
    }

    /// Says whether the binding counts for what lies in `teamspace` (`None`: in the organization itself).
    #[must_use]
    pub fn counts_in(&self, teamspace: Option<TeamspaceId>) -> bool {
        self.teamspace.is_none() || self.teamspace == teamspace
    }
}

/// Who acts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Actor {
    User {
        id: UserId,
        email: String,
    },
    /// A program that acts for nobody in particular. Its id is one of the users', so that whatever has an owner has one
    /// kind of owner.
    Service {
        id: UserId,
        name: String,
    },
}

impl Actor {
    #[must_use]
    pub const fn user(&self) -> UserId {
        match self {
            Self::User { id, .. } | Self::Service { id, .. } => *id,
        }
    }

    /// Returns what people call them: the address of a user, the name of a service account.
    #[must_use]
    pub fn email(&self) -> &str {
        match self {
            Self::User { email, .. } => email,
            Self::Service { name, .. } => name,
        }
    }

    #[must_use]
    pub const fn is_service(&self) -> bool {
        matches!(self, Self::Service { .. })
    }
}

/// Somebody authenticated, with everything a decision may ask about them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    pub org: OrgId,
    pub actor: Actor,
    /// Bound to the user directly or to one of their groups.
    pub roles: Vec<RoleBinding>,
    /// By the names the issuer gave them.
    pub groups: Vec<String>,
    /// Where they ask from; unknown where a decision is made without them.
    pub from: Option<IpAddr>,
}

impl Caller {
    /// Returns the caller's organization-wide roles, the most powerful first and each once.
    #[must_use]
    pub fn roles_everywhere(&self) -> Vec<Role> {
        self.roles_in(None)
    }

    /// Returns the roles that count in `teamspace`, the most powerful first and each once.
    #[must_use]
    pub fn roles_in(&self, teamspace: Option<TeamspaceId>) -> Vec<Role> {
        let mut roles: Vec<_> =
            self.roles.iter().filter(|b| b.counts_in(teamspace)).map(|b| b.role).collect();
        roles.sort_unstable();
        roles.dedup();
        roles
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_bound_in_one_teamspace_counts_only_there() {
        let here = TeamspaceId::generate();
        let binding = RoleBinding { role: Role::Admin, teamspace: Some(here) };
        assert!(binding.counts_in(Some(here)));
        assert!(!binding.counts_in(Some(TeamspaceId::generate())));
        assert!(!binding.counts_in(None));
    }

    #[test]
    fn a_role_is_read_as_it_is_written() {
        for role in Role::ALL {
            assert_eq!(role.as_str().parse(), Ok(role));
        }
        assert!("root".parse::<Role>().is_err());
    }
}
