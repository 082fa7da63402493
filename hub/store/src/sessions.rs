//! Sessions as they are remembered: what was asked for, what was decided, what is seen.

use std::collections::BTreeMap;

use fairlead_model::{
    DeviceId, ExternalHost, InterceptPort, OrgId, Patterns, Phase, PodName, Port, ServicePort,
    ServiceRef, SessionId, SessionKind, TeamspaceId, Thumbprint, UserId,
};
use hub_policy::{TeamspaceFacts, TeamspaceName};
use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use sqlx::types::Json;

use crate::{Scoped, StoreError, Unscoped};

#[derive(Clone, Debug, PartialEq)]
pub struct Session {
    pub org: OrgId,
    pub id: SessionId,
    pub teamspace: TeamspaceId,
    pub teamspace_name: TeamspaceName,
    pub user: UserId,
    pub email: String,
    pub device: DeviceId,
    pub device_name: String,
    pub device_key: Thumbprint,
    pub wanted: Wanted,
    pub begun_from: Option<String>,
    pub phase: Phase,
    pub detail: Option<String>,
    pub created_at: Timestamp,
    /// When its grant was last minted.
    pub renewed_at: Timestamp,
    pub ended: Option<Ended>,
}

/// What a session is for.
#[derive(Clone, Debug, PartialEq)]
pub enum Wanted {
    Consume { patterns: Patterns },
    Intercept { service: ServiceRef, ports: Vec<InterceptPort>, grace_s: u32 },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    pub at: Timestamp,
    pub reason: String,
    pub cause: EndCause,
}

/// Why a session ended, as far as it matters how its ends are closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndCause {
    /// Whoever began it has ended it: what is under way may finish.
    Left,
    /// Somebody else or something decided: everything stops at once.
    Decided,
    /// One of its ends saw that it is over.
    Seen,
}

impl EndCause {
    const ALL: [Self; 3] = [Self::Left, Self::Decided, Self::Seen];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Decided => "decided",
            Self::Seen => "seen",
        }
    }

    fn read(text: &str) -> Result<Self, StoreError> {
        let known = Self::ALL.into_iter().find(|cause| cause.as_str() == text);
        known.ok_or_else(|| damaged("an unknown cause of its end"))
    }
}

impl Session {
    #[must_use]
    pub const fn kind(&self) -> SessionKind {
        match self.wanted {
            Wanted::Consume { .. } => SessionKind::Consume,
            Wanted::Intercept { .. } => SessionKind::Intercept,
        }
    }

    #[must_use]
    pub const fn is_live(&self) -> bool {
        self.ended.is_none()
    }

    #[must_use]
    pub fn teamspace_facts(&self) -> TeamspaceFacts {
        TeamspaceFacts { org: self.org, id: self.teamspace, name: self.teamspace_name.clone() }
    }
}

struct Row {
    org_id: uuid::Uuid,
    id: uuid::Uuid,
    teamspace_id: uuid::Uuid,
    teamspace_name: String,
    user_id: uuid::Uuid,
    email: String,
    device_id: uuid::Uuid,
    device_name: String,
    thumbprint: Vec<u8>,
    patterns: Option<Vec<String>>,
    namespace: Option<String>,
    name: Option<String>,
    ports: Option<Json<Vec<InterceptPort>>>,
    grace_s: Option<i32>,
    begun_from: Option<String>,
    phase: String,
    detail: Option<String>,
    created_at: Timestamp,
    renewed_at: Timestamp,
    ended_at: Option<jiff_sqlx::Timestamp>,
    end_reason: Option<String>,
    end_cause: Option<String>,
}

impl Row {
    fn wanted(&mut self) -> Result<Wanted, StoreError> {
        if let Some(words) = self.patterns.take() {
            let patterns = words
                .iter()
                .map(|word| word.parse())
                .collect::<Result<Vec<_>, _>>()
                .and_then(Patterns::new)
                .map_err(damaged)?;
            return Ok(Wanted::Consume { patterns });
        }
        match (&self.namespace, &self.name, self.ports.take(), self.grace_s) {
            (Some(namespace), Some(name), Some(ports), Some(grace_s)) => Ok(Wanted::Intercept {
                service: ServiceRef::parse_parts(namespace, name).map_err(damaged)?,
                ports: ports.0,
                grace_s: u32::try_from(grace_s).map_err(damaged)?,
            }),
            _ => Err(damaged("neither a consume nor an intercept")),
        }
    }
}

pub(crate) fn damaged(what: impl ToString) -> StoreError {
    StoreError::damaged("session", what)
}

impl TryFrom<Row> for Session {
    type Error = StoreError;

    fn try_from(mut row: Row) -> Result<Self, StoreError> {
        let wanted = row.wanted()?;
        let key = row.thumbprint.try_into().map_err(|_| damaged("its key is not 32 bytes"))?;
        let ended = match (row.ended_at, row.end_reason, row.end_cause) {
            (Some(at), Some(reason), Some(cause)) => {
                Some(Ended { at: at.into(), reason, cause: EndCause::read(&cause)? })
            }
            _ => None,
        };
        Ok(Self {
            org: row.org_id.into(),
            id: row.id.into(),
            teamspace: row.teamspace_id.into(),
            teamspace_name: row.teamspace_name.parse().map_err(damaged)?,
            user: row.user_id.into(),
            email: row.email,
            device: row.device_id.into(),
            device_name: row.device_name,
            device_key: Thumbprint::from_bytes(key),
            wanted,
            begun_from: row.begun_from,
            phase: read_phase(&row.phase)?,
            detail: row.detail,
            created_at: row.created_at,
            renewed_at: row.renewed_at,
            ended,
        })
    }
}

fn read_phase(text: &str) -> Result<Phase, StoreError> {
    use Phase::{Active, Away, Contested, Ended, Preparing, Refused};
    [Preparing, Active, Away, Contested, Refused, Ended]
        .into_iter()
        .find(|phase| phase.as_str() == text)
        .ok_or_else(|| damaged("an unknown phase"))
}

/// Which sessions a list is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    pub only_live: bool,
    pub teamspace: Option<TeamspaceId>,
    pub device: Option<DeviceId>,
    pub user: Option<UserId>,
}

/// Longest list that has ended sessions in it; the others are in the audit log. Live ones are never left out: whoever
/// misses one takes it for ended.
const ENDED_LIST_MAX: i64 = 1_000;

impl Scoped<'_> {
    /// Lists sessions, the newest first.
    pub async fn sessions(&self, filter: Filter) -> Result<Vec<Session>, StoreError> {
        let rows = sqlx::query_as!(
            Row,
            "select s.org_id, s.id, s.teamspace_id, t.name as teamspace_name, s.user_id, u.email,
                    s.device_id, d.name as device_name, d.thumbprint, s.patterns, s.namespace as \"namespace?\", s.name as \"name?\",
                    s.ports as \"ports?: _\", s.grace_s, s.begun_from, s.phase, s.detail, s.created_at,
                    s.renewed_at, s.ended_at as \"ended_at?\", s.end_reason, s.end_cause
             from sessions s
             join teamspaces t on (t.org_id, t.id) = (s.org_id, s.teamspace_id)
             join users u on (u.org_id, u.id) = (s.org_id, s.user_id)
             join devices d on (d.org_id, d.id) = (s.org_id, s.device_id)
             where s.org_id = $1 and (not $2 or s.ended_at is null)
               and ($3::uuid is null or s.teamspace_id = $3) and ($4::uuid is null or s.device_id = $4)
               and ($5::uuid is null or s.user_id = $5)
             order by s.created_at desc, s.id limit $6",
            self.org.as_uuid(),
            filter.only_live,
            filter.teamspace.map(TeamspaceId::as_uuid),
            filter.device.map(DeviceId::as_uuid),
            filter.user.map(UserId::as_uuid),
            if filter.only_live { i64::MAX } else { ENDED_LIST_MAX },
        )
        .fetch_all(self.pool)
        .await?;
        rows.into_iter().map(Session::try_from).collect()
    }

    pub async fn session(&self, id: SessionId) -> Result<Session, StoreError> {
        sqlx::query_as!(
            Row,
            "select s.org_id, s.id, s.teamspace_id, t.name as teamspace_name, s.user_id, u.email,
                    s.device_id, d.name as device_name, d.thumbprint, s.patterns, s.namespace as \"namespace?\", s.name as \"name?\",
                    s.ports as \"ports?: _\", s.grace_s, s.begun_from, s.phase, s.detail, s.created_at,
                    s.renewed_at, s.ended_at as \"ended_at?\", s.end_reason, s.end_cause
             from sessions s
             join teamspaces t on (t.org_id, t.id) = (s.org_id, s.teamspace_id)
             join users u on (u.org_id, u.id) = (s.org_id, s.user_id)
             join devices d on (d.org_id, d.id) = (s.org_id, s.device_id)
             where s.org_id = $1 and s.id = $2",
            self.org.as_uuid(),
            id.as_uuid()
        )
        .fetch_optional(self.pool)
        .await?
        .ok_or(StoreError::NotFound { noun: "session" })?
        .try_into()
    }

    /// Returns what the session may reach, as it was last decided.
    pub async fn granted(&self, id: SessionId) -> Result<Granted, StoreError> {
        // Nothing was taken out of it that late.
        Ok(self.held(id, Timestamp::MAX).await?.granted)
    }

    /// Returns what the session may reach, and what else a grant may name that was minted after `since`.
    pub async fn held(&self, id: SessionId, since: Timestamp) -> Result<Held, StoreError> {
        let mut held = self.held_by(&[id], since).await?;
        Ok(held.remove(&id).unwrap_or_default())
    }

    /// Returns the same of each of these sessions.
    pub async fn held_by(
        &self,
        ids: &[SessionId],
        since: Timestamp,
    ) -> Result<BTreeMap<SessionId, Held>, StoreError> {
        let mut held = ids.iter().map(|id| (*id, Held::default())).collect();
        self.add_services(&mut held, since).await?;
        self.add_hosts(&mut held, since).await?;
        Ok(held)
    }

    async fn add_services(
        &self,
        held: &mut BTreeMap<SessionId, Held>,
        since: Timestamp,
    ) -> Result<(), StoreError> {
        let ids: Vec<_> = held.keys().map(|id| id.as_uuid()).collect();
        let rows = sqlx::query!(
            "select session_id, namespace, name, ports, udp_ports, pods from session_services
             where org_id = $1 and session_id = any($2) and allowed
               and (cardinality(ports) + cardinality(udp_ports) > 0 or decided_at >= $3)
             order by session_id, namespace, name",
            self.org.as_uuid(),
            &ids,
            since.to_sqlx() as _,
        )
        .fetch_all(self.pool)
        .await?;
        for row in rows {
            let held = held.entry(SessionId::from_uuid(row.session_id)).or_default();
            let service = ServiceRef::parse_parts(&row.namespace, &row.name).map_err(damaged)?;
            let tcp = row.ports.into_iter().map(|number| read_port(number).map(ServicePort::tcp));
            let udp = row.udp_ports.into_iter();
            let udp = udp.map(|number| read_port(number).map(ServicePort::udp));
            let ports = tcp.chain(udp).collect::<Result<Vec<_>, _>>()?;
            if ports.is_empty() {
                held.services_taken_out.push(service);
                continue;
            }
            let pods = row.pods.into_iter().map(|pod| PodName::parse(pod).map_err(damaged));
            let pods = pods.collect::<Result<_, _>>()?;
            held.granted.services.push(GrantedService { service, ports, pods });
        }
        Ok(())
    }
}

/// What a grant may name that a laptop holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    pub granted: Granted,
    /// The session may not reach them any more.
    pub services_taken_out: Vec<ServiceRef>,
    pub hosts_taken_out: Vec<ExternalHost>,
}

impl Held {
    pub fn services(&self) -> impl Iterator<Item = &ServiceRef> {
        self.granted.services.iter().map(|had| &had.service).chain(&self.services_taken_out)
    }

    pub fn hosts(&self) -> impl Iterator<Item = &ExternalHost> {
        self.granted.hosts.iter().chain(&self.hosts_taken_out)
    }
}

/// What a session may reach.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Granted {
    pub services: Vec<GrantedService>,
    /// Outside the cluster.
    pub hosts: Vec<ExternalHost>,
}

/// One service that a session may reach, at these ports, and the pods of it that the laptop was told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantedService {
    pub service: ServiceRef,
    pub ports: Vec<ServicePort>,
    pub pods: Vec<PodName>,
}

fn read_port(number: i32) -> Result<Port, StoreError> {
    let port = u32::try_from(number).ok().and_then(|number| number.try_into().ok());
    port.ok_or_else(|| damaged("a port"))
}

impl Unscoped<'_> {
    /// Lists the organizations in which sessions are live.
    pub async fn organizations_with_live_sessions(&self) -> Result<Vec<OrgId>, StoreError> {
        let ids =
            sqlx::query_scalar!("select distinct org_id from sessions where ended_at is null")
                .fetch_all(self.pool)
                .await?;
        Ok(ids.into_iter().map(OrgId::from).collect())
    }
}
