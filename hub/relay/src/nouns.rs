//! What the holder of a relay says to it.

use fairlead_model::{CarrierId, OrgId, SessionId, UserId};
use fairlead_wire::ticket::Ticket;

/// How much one relay carries.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Carriers of all organizations, offered ones included. Further offers are refused.
    pub carriers: usize,
    /// Carriers of one organization, so that none can use up the relay.
    pub carriers_per_organization: usize,
    /// Carriers of one user, so that none can use up what their organization has. A session has at most four to each
    /// replica.
    pub carriers_per_user: usize,
    /// Connections that have not shown a ticket yet. Further ones are closed at once.
    pub strangers: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            carriers: 20_000,
            carriers_per_organization: 5_000,
            carriers_per_user: 500,
            strangers: 1024,
        }
    }
}

/// For whom a carrier is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CarrierMeta {
    pub carrier: CarrierId,
    pub session: SessionId,
    pub organization: OrgId,
    pub user: UserId,
}

/// The two tickets of a carrier, each for its own end.
#[derive(Debug)]
pub struct Offer {
    pub laptop: Ticket,
    pub cluster: Ticket,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OfferRefused {
    #[error("the relay carries as much as it may")]
    Full,
    #[error("the organization has as many carriers as it may")]
    OrganizationFull,
    #[error("you have as many carriers as one user may; end sessions that you do not need")]
    UserFull,
    #[error("there is a carrier of this name already")]
    Known,
    #[error("the relay is stopping")]
    Stopping,
}
