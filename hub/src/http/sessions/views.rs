//! Sessions as they are asked for and shown.

use fairlead_model::{Protocol, ServicePort};
use hub_store::Wanted;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    actions::{
        consume::{ConsumeBegun, Unmatched},
        intercept::InterceptBegun,
        sessions::SessionSeen,
    },
    http::error::Problem,
};

#[derive(Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub(super) enum NewSession {
    Consume {
        teamspace_id: Uuid,
        device_id: Uuid,
        /// `shop/cart`, `shop/cart:8080`, `shop/*`, `*/cart`, `*/*:80`, `!shop/payment`; and outside the cluster
        /// `+db.example.net:5432`
        patterns: Vec<String>,
    },
    Intercept {
        teamspace_id: Uuid,
        device_id: Uuid,
        /// `shop/cart`
        service: String,
        ports: Vec<InterceptPort>,
        /// How long the laptop may be away before the service is given back; 15 where nothing is said.
        grace_s: Option<u32>,
    },
}

/// All the words that a consume is about from here on.
#[derive(Deserialize, ToSchema)]
pub(super) struct ConsumePatterns {
    /// `shop/cart`, `shop/cart:8080`, `shop/*`, `*/cart`, `*/*:80`, `!shop/payment`; and outside the cluster
    /// `+db.example.net:5432`
    pub(super) patterns: Vec<String>,
}

#[derive(Clone, Copy, Serialize, Deserialize, ToSchema)]
pub(super) struct InterceptPort {
    #[schema(minimum = 1)]
    service_port: u16,
    #[schema(minimum = 1)]
    laptop_port: u16,
}

#[derive(Serialize, ToSchema)]
pub(super) struct SessionBegun {
    session: Session,
    /// A JWT; the laptop presents it inside its carriers.
    grant: String,
    services: Vec<GrantedService>,
    /// Outside the cluster: `db.example.net:5432`
    hosts: Vec<String>,
    refused: Vec<RefusedService>,
    /// Consumes: the words that brought nothing.
    unmatched: Vec<UnmatchedPattern>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct GrantedService {
    namespace: String,
    name: String,
    /// Of TCP.
    ports: Vec<u16>,
    udp_ports: Vec<u16>,
    /// The names by which a headless service has its pods.
    pods: Vec<String>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct RefusedService {
    /// `shop/payment`, or a host outside the cluster: `db.example.net:5432`
    service: String,
    reason: String,
    policies: Vec<String>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct UnmatchedPattern {
    pattern: String,
    /// For people: no such service, or no such port of it.
    reason: String,
    /// Names that may have been meant.
    similar: Vec<String>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct SessionList {
    pub(super) sessions: Vec<Session>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Session {
    id: Uuid,
    kind: SessionKind,
    teamspace: TeamspaceOfSession,
    user: UserOfSession,
    device: DeviceOfSession,
    /// Consumes: what was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    patterns: Option<Vec<String>>,
    /// Intercepts: whose requests are taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ports: Option<Vec<InterceptPort>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    grace_s: Option<u32>,
    phase: Phase,
    detail: Option<String>,
    created_at: Timestamp,
    ended_at: Option<Timestamp>,
    end_reason: Option<String>,
    may: SessionMay,
}

#[derive(Serialize, ToSchema)]
pub(super) struct TeamspaceOfSession {
    id: Uuid,
    name: String,
}

#[derive(Serialize, ToSchema)]
pub(super) struct UserOfSession {
    id: Uuid,
    email: String,
}

#[derive(Serialize, ToSchema)]
pub(super) struct DeviceOfSession {
    id: Uuid,
    name: String,
}

/// What the caller may do with it.
#[derive(Serialize, ToSchema)]
pub(super) struct SessionMay {
    end: bool,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum SessionKind {
    Consume,
    Intercept,
}

/// `active` only once bytes have passed through the whole path.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::http) enum Phase {
    Preparing,
    Active,
    Away,
    Contested,
    Refused,
    Ended,
}

impl From<fairlead_model::Phase> for Phase {
    fn from(phase: fairlead_model::Phase) -> Self {
        match phase {
            fairlead_model::Phase::Preparing => Self::Preparing,
            fairlead_model::Phase::Active => Self::Active,
            fairlead_model::Phase::Away => Self::Away,
            fairlead_model::Phase::Contested => Self::Contested,
            fairlead_model::Phase::Refused => Self::Refused,
            fairlead_model::Phase::Ended => Self::Ended,
        }
    }
}

impl From<SessionSeen> for Session {
    fn from(SessionSeen { session, may_end }: SessionSeen) -> Self {
        let kind = match session.wanted {
            Wanted::Consume { .. } => SessionKind::Consume,
            Wanted::Intercept { .. } => SessionKind::Intercept,
        };
        let (patterns, service, ports, grace_s) = match session.wanted {
            Wanted::Consume { patterns } => {
                (Some(patterns.iter().map(ToString::to_string).collect()), None, None, None)
            }
            Wanted::Intercept { service, ports, grace_s } => {
                let ports = ports.iter().map(|port| InterceptPort {
                    service_port: port.service_port.get(),
                    laptop_port: port.laptop_port.get(),
                });
                (None, Some(service.to_string()), Some(ports.collect()), Some(grace_s))
            }
        };
        Self {
            id: session.id.as_uuid(),
            kind,
            teamspace: TeamspaceOfSession {
                id: session.teamspace.as_uuid(),
                name: session.teamspace_name.into(),
            },
            user: UserOfSession { id: session.user.as_uuid(), email: session.email },
            device: DeviceOfSession { id: session.device.as_uuid(), name: session.device_name },
            patterns,
            service,
            ports,
            grace_s,
            phase: session.phase.into(),
            detail: session.detail,
            created_at: session.created_at,
            ended_at: session.ended.as_ref().map(|ended| ended.at),
            end_reason: session.ended.map(|ended| ended.reason),
            may: SessionMay { end: may_end },
        }
    }
}

impl From<hub_store::GrantedService> for GrantedService {
    fn from(granted: hub_store::GrantedService) -> Self {
        Self {
            namespace: granted.service.namespace.into(),
            name: granted.service.name.into(),
            ports: ports_of(&granted.ports, Protocol::Tcp),
            udp_ports: ports_of(&granted.ports, Protocol::Udp),
            pods: granted.pods.into_iter().map(String::from).collect(),
        }
    }
}

fn ports_of(ports: &[ServicePort], protocol: Protocol) -> Vec<u16> {
    let ports = ports.iter().filter(|port| port.protocol == protocol);
    ports.map(|port| port.port.get()).collect()
}

impl From<ConsumeBegun> for SessionBegun {
    fn from(begun: ConsumeBegun) -> Self {
        let refused = |refused: hub_policy::Refused<hub_policy::actions::Reach>| RefusedService {
            service: refused.action.name(),
            reason: refused.denied.reason,
            policies: refused.denied.policies,
        };
        let unmatched = |word: Unmatched| UnmatchedPattern {
            pattern: word.pattern.to_string(),
            reason: word.reason,
            similar: word.similar,
        };
        Self {
            session: SessionSeen { session: begun.session, may_end: true }.into(),
            grant: begun.grant,
            services: begun.granted.services.into_iter().map(GrantedService::from).collect(),
            hosts: begun.granted.hosts.into_iter().map(String::from).collect(),
            refused: begun.refused.into_iter().map(refused).collect(),
            unmatched: begun.unmatched.into_iter().map(unmatched).collect(),
        }
    }
}

impl From<InterceptBegun> for SessionBegun {
    fn from(begun: InterceptBegun) -> Self {
        Self {
            session: SessionSeen { session: begun.session, may_end: true }.into(),
            grant: begun.grant,
            services: begun.granted.services.into_iter().map(GrantedService::from).collect(),
            hosts: Vec::new(),
            refused: Vec::new(),
            unmatched: Vec::new(),
        }
    }
}

impl InterceptPort {
    pub(super) fn read(self) -> Result<fairlead_model::InterceptPort, Problem> {
        let some = |number| {
            fairlead_model::Port::new(number)
                .ok_or_else(|| Problem::invalid("`0` is not a port: a number from 1 to 65535"))
        };
        Ok(fairlead_model::InterceptPort {
            service_port: some(self.service_port)?,
            laptop_port: some(self.laptop_port)?,
        })
    }
}
