//! A grant as it stands in the JWT, and how it is written and read there. Whether one is worth anything is not said
//! here, but in `verify.rs`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fairlead_model::{
    ExternalHost, GrantId, OrgId, PodName, Port, Protocol, ServicePort, ServiceRef, SessionId,
    SessionKind, TeamspaceId, Thumbprint, UserId,
};
use serde::{Deserialize, Serialize};

use super::{Grant, GrantRefused, GrantedService};

pub(super) const KIND: &str = "fairlead-grant+jwt";
pub(super) const ISSUER: &str = "fairlead-hub";

/// A grant as it stands in the JWT.
#[derive(Serialize, Deserialize)]
pub(super) struct Claims {
    pub(super) jti: GrantId,
    sid: SessionId,
    pub(super) iss: String,
    aud: TeamspaceId,
    org: OrgId,
    sub: UserId,
    cnf: Confirmation,
    act: SessionKind,
    pub(super) svc: Vec<ServiceClaim>,
    /// Hosts outside the cluster.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) ext: Vec<ExternalHost>,
    pv: u64,
    iat: u64,
    pub(super) nbf: u64,
    exp: u64,
}

#[derive(Serialize, Deserialize)]
struct Confirmation {
    jkt: Thumbprint,
}

/// Whoever reads only `ports` allows less than was granted, never more.
#[derive(Serialize, Deserialize)]
pub(super) struct ServiceClaim {
    ns: String,
    name: String,
    /// Of TCP.
    ports: Vec<u16>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    udp: Vec<u16>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pods: Vec<PodName>,
}

impl From<&Grant> for Claims {
    fn from(grant: &Grant) -> Self {
        Self {
            jti: grant.id,
            sid: grant.session,
            iss: ISSUER.to_owned(),
            aud: grant.teamspace,
            org: grant.organization,
            sub: grant.user,
            cnf: Confirmation { jkt: grant.device },
            act: grant.action,
            svc: grant.services.iter().map(ServiceClaim::from).collect(),
            ext: grant.hosts.clone(),
            pv: grant.policy_version,
            iat: seconds_of(grant.issued_at),
            nbf: seconds_of(grant.issued_at),
            exp: seconds_of(grant.expires_at),
        }
    }
}

impl From<&GrantedService> for ServiceClaim {
    fn from(granted: &GrantedService) -> Self {
        Self {
            ns: granted.service.namespace.to_string(),
            name: granted.service.name.to_string(),
            ports: ports_of(granted, Protocol::Tcp),
            udp: ports_of(granted, Protocol::Udp),
            pods: granted.pods.clone(),
        }
    }
}

impl TryFrom<Claims> for Grant {
    type Error = GrantRefused;

    fn try_from(claims: Claims) -> Result<Self, GrantRefused> {
        Ok(Self {
            id: claims.jti,
            session: claims.sid,
            teamspace: claims.aud,
            organization: claims.org,
            user: claims.sub,
            device: claims.cnf.jkt,
            action: claims.act,
            services: claims.svc.into_iter().map(granted).collect::<Result<_, _>>()?,
            hosts: claims.ext,
            policy_version: claims.pv,
            issued_at: time_of(claims.iat)?,
            expires_at: time_of(claims.exp)?,
        })
    }
}

pub(super) fn granted(claim: ServiceClaim) -> Result<GrantedService, GrantRefused> {
    let service =
        ServiceRef::parse_parts(&claim.ns, &claim.name).map_err(|_| GrantRefused::Malformed)?;
    let tcp = claim.ports.into_iter().map(|port| Port::new(port).map(ServicePort::tcp));
    let udp = claim.udp.into_iter().map(|port| Port::new(port).map(ServicePort::udp));
    let ports: Option<Vec<_>> = tcp.chain(udp).collect();
    Ok(GrantedService { service, ports: ports.ok_or(GrantRefused::Malformed)?, pods: claim.pods })
}

fn ports_of(granted: &GrantedService, protocol: Protocol) -> Vec<u16> {
    let ports = granted.ports.iter().filter(|port| port.protocol == protocol);
    ports.map(|port| port.port.get()).collect()
}

fn seconds_of(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

pub(super) fn time_of(seconds: u64) -> Result<SystemTime, GrantRefused> {
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).ok_or(GrantRefused::Malformed)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::world::port, *};

    #[test]
    fn a_grant_of_before_has_neither_udp_nor_pods() {
        let claim = json!({"ns": "shop", "name": "cart", "ports": [80]});
        let read = granted(serde_json::from_value(claim).expect("a claim")).expect("readable");
        assert_eq!((read.ports, read.pods), (vec![port(80)], Vec::new()));
    }
}
