//! Identifiers: one type per noun, so that a session is never taken for a teamspace.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

#[derive(Debug, thiserror::Error)]
#[error("`{text}` is no {noun} id, which is a UUID")]
pub struct InvalidId {
    noun: &'static str,
    text: String,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $noun:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// Returns a new id, ordered by the time of its making.
            #[must_use]
            pub fn generate() -> Self {
                Self(Uuid::now_v7())
            }

            #[must_use]
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            #[must_use]
            pub const fn as_uuid(self) -> Uuid {
                self.0
            }
        }

        impl From<Uuid> for $name {
            fn from(uuid: Uuid) -> Self {
                Self(uuid)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Uuid::parse_str(text).map(Self).map_err(|_| InvalidId { noun: $noun, text: text.to_owned() })
            }
        }
    };
}

id!(
    /// An organization: the tenant. Nothing crosses it.
    OrgId, "organization"
);
id!(UserId, "user");
id!(GroupId, "group");
id!(
    /// A teamspace: one enrolled cluster, or a set of its namespaces.
    TeamspaceId, "teamspace"
);
id!(JoinTokenId, "join token");
id!(
    /// A token of a service account.
    ApiTokenId, "API token"
);
id!(
    /// A device: one user's key on one laptop.
    DeviceId, "device"
);
id!(
    /// A session: one consume or one intercept, as desired state in the hub.
    SessionId, "session"
);
id!(GrantId, "grant");
id!(CarrierId, "carrier");
