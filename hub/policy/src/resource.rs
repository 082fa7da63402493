//! What is acted upon, with the facts about it that policies may ask for.

use std::{collections::BTreeMap, fmt, str::FromStr};

use fairlead_model::{
    DeviceId, ExternalHost, Namespace, OrgId, ServiceRef, SessionId, TeamspaceId, UserId,
};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a teamspace name: 1 to 63 of a-z, 0-9 and `-`, beginning and ending with a letter or digit"
)]
pub struct InvalidTeamspaceName {
    text: String,
}

/// A teamspace's name: a DNS label, so that it can stand in commands, addresses and policies alike.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TeamspaceName(String);

impl TeamspaceName {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TeamspaceName {
    type Err = InvalidTeamspaceName;

    fn from_str(text: &str) -> Result<Self, InvalidTeamspaceName> {
        match Namespace::parse(text) {
            Ok(label) => Ok(Self(label.into())),
            Err(_) => Err(InvalidTeamspaceName { text: text.to_owned() }),
        }
    }
}

impl TryFrom<String> for TeamspaceName {
    type Error = InvalidTeamspaceName;

    fn try_from(text: String) -> Result<Self, InvalidTeamspaceName> {
        text.parse()
    }
}

impl From<TeamspaceName> for String {
    fn from(name: TeamspaceName) -> Self {
        name.0
    }
}

impl fmt::Display for TeamspaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A teamspace as decisions see it. Policies name it by its name, which is unique in its organization.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TeamspaceFacts {
    pub org: OrgId,
    pub id: TeamspaceId,
    pub name: TeamspaceName,
}

/// A service as decisions see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceFacts {
    pub teamspace: TeamspaceFacts,
    pub service: ServiceRef,
    pub labels: BTreeMap<String, String>,
}

/// A host outside the cluster as decisions see it: one port of it, through one teamspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostFacts {
    pub teamspace: TeamspaceFacts,
    pub host: ExternalHost,
}

/// The label whose value names the group that owns a service.
pub(crate) const OWNERS_LABEL: &str = "fairlead.dev/owners";

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resource {
    Organization(OrgId),
    Teamspace(TeamspaceFacts),
    Service(ServiceFacts),
    Host(HostFacts),
    Session { id: SessionId, owner: UserId, teamspace: TeamspaceFacts },
    Device { id: DeviceId, owner: UserId, org: OrgId },
}

impl Resource {
    #[must_use]
    pub const fn org(&self) -> OrgId {
        match self {
            Self::Organization(org) | Self::Device { org, .. } => *org,
            Self::Teamspace(teamspace)
            | Self::Service(ServiceFacts { teamspace, .. })
            | Self::Host(HostFacts { teamspace, .. })
            | Self::Session { teamspace, .. } => teamspace.org,
        }
    }

    #[must_use]
    pub const fn teamspace(&self) -> Option<&TeamspaceFacts> {
        match self {
            Self::Organization(_) | Self::Device { .. } => None,
            Self::Teamspace(teamspace)
            | Self::Service(ServiceFacts { teamspace, .. })
            | Self::Host(HostFacts { teamspace, .. })
            | Self::Session { teamspace, .. } => Some(teamspace),
        }
    }
}
