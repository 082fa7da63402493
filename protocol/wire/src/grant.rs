//! Grants: the hub's signed statement that one laptop key may do one thing to these services until then.
//!
//! Only the hub signs (`sign.rs`), every agent replica verifies (`verify.rs`); a laptop reads what it carries and cannot
//! verify it (`unverified.rs`). Here is what a grant says, whoever has it; how it stands in the JWT is `claims.rs`.

mod claims;
mod sign;
mod unverified;
mod verify;
#[cfg(test)]
mod world;

use std::time::SystemTime;

use fairlead_model::{
    Callee, ExternalHost, GrantId, OrgId, PodName, ServicePort, ServiceRef, SessionId, SessionKind,
    TeamspaceId, Thumbprint, UserId,
};
use serde::{Deserialize, Serialize};

pub use self::{
    sign::GrantSigner,
    unverified::{Unverified, unverified},
    verify::GrantVerifier,
};
use crate::open::GRANT_MAX_BYTES;

/// Why a grant is worth nothing here. Each case has its own words, because each has its own remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GrantRefused {
    #[error("the grant is longer than {GRANT_MAX_BYTES} bytes")]
    TooLong,
    #[error("this is not a grant")]
    Malformed,
    #[error("the grant is signed by an algorithm that is not EdDSA")]
    WrongAlgorithm,
    #[error("the grant was not signed by this organization's hub")]
    BadSignature,
    #[error("the grant is for another teamspace")]
    OtherTeamspace,
    #[error("the grant is for another device")]
    OtherDevice,
    #[error(
        "the grant has expired: it is old, or the clock of the cluster's node is ahead of the hub's (NTP sets it right)"
    )]
    Expired,
    #[error(
        "the grant is not valid yet: the clock of the cluster's node is behind the hub's, or the hub's is ahead (NTP sets \
         them right)"
    )]
    NotYetValid,
}

impl GrantRefused {
    /// Says whether it is about time alone: the same grant, or the next one, may be good in a moment.
    #[must_use]
    pub const fn is_of_time(&self) -> bool {
        matches!(self, Self::Expired | Self::NotYetValid)
    }
}

/// One service a grant covers, and which of its ports. What is granted of a headless Service is granted of each of its
/// pods; their names are there for the laptop, which has to know how they are called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantedService {
    pub service: ServiceRef,
    pub ports: Vec<ServicePort>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pods: Vec<PodName>,
}

/// What the hub decided, in the words of the nouns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    pub id: GrantId,
    pub session: SessionId,
    pub teamspace: TeamspaceId,
    pub organization: OrgId,
    pub user: UserId,
    /// The laptop key that may use it.
    pub device: Thumbprint,
    pub action: SessionKind,
    pub services: Vec<GrantedService>,
    /// Outside the cluster.
    pub hosts: Vec<ExternalHost>,
    pub policy_version: u64,
    pub issued_at: SystemTime,
    pub expires_at: SystemTime,
}

impl Grant {
    /// Says whether the grant covers this port of whoever is called. A pod is covered by its Service.
    #[must_use]
    pub fn covers(&self, callee: &Callee, port: ServicePort) -> bool {
        match callee {
            Callee::InCluster { service, .. } => self.allows(service, port),
            Callee::Outside { host } => self
                .hosts
                .iter()
                .any(|granted| granted.name == *host && ServicePort::tcp(granted.port) == port),
        }
    }

    /// Says whether the grant covers this port of this service.
    #[must_use]
    pub fn allows(&self, service: &ServiceRef, port: ServicePort) -> bool {
        self.services
            .iter()
            .any(|granted| granted.service == *service && granted.ports.contains(&port))
    }

    #[must_use]
    pub fn is_live(&self, now: SystemTime) -> bool {
        now < self.expires_at
    }
}

#[cfg(test)]
mod tests {
    use fairlead_model::HostName;

    use super::world::{World, port, udp};

    #[test]
    fn a_grant_covers_its_services_and_ports_only() {
        let grant = World::new().grant;
        let allows = |service: &str, port| grant.allows(&service.parse().expect("valid"), port);
        assert!(allows("shop/cart", port(80)) && allows("shop/cart", port(8080)));
        assert!(!allows("shop/cart", port(81)) && !allows("shop/payment", port(80)));
        assert!(!allows("pay/cart", port(80)));
        assert!(allows("shop/cart", udp(53)) && !allows("shop/cart", port(53)));
        assert!(!allows("shop/cart", udp(80)), "a number is not a protocol");
    }

    #[test]
    fn a_grant_covers_a_host_by_its_very_name_and_port() {
        let grant = World::new().grant;
        let allows =
            |host: &str, port| grant.covers(&host.parse::<HostName>().expect("valid").into(), port);
        assert!(allows("db.example.net", port(5432)));
        assert!(!allows("db.example.net", port(5433)) && !allows("db.example.net", udp(5432)));
        for other in ["example.net", "x.db.example.net", "db.example.net.evil.org"] {
            assert!(!allows(other, port(5432)), "{other}");
        }
    }
}
