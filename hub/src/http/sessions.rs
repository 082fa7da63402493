//! `/api/v1/sessions`

use axum::{Json, extract::State, http::StatusCode};
use fairlead_model::{DeviceId, Patterns, SessionId, TeamspaceId};
use hub_store::{Granted, Wanted};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    error::{ErrorBody, Problem},
    extract::{Asked, Body, Named},
};
use crate::{
    Hub,
    actions::{
        consume::{self, ConsumeAsked},
        intercept::{self, InterceptAsked},
        sessions::{self, SessionSeen},
    },
    login::Authenticated,
};

pub(super) fn routes() -> OpenApiRouter<Hub> {
    OpenApiRouter::new().routes(routes!(list, begin)).routes(routes!(show, end))
}

#[derive(Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum NewSession {
    Consume {
        teamspace_id: Uuid,
        device_id: Uuid,
        /// `shop/cart`, `shop/cart:8080`, `shop/*`, `!shop/payment`
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

#[derive(Clone, Copy, Serialize, Deserialize, ToSchema)]
struct InterceptPort {
    #[schema(minimum = 1)]
    service_port: u16,
    #[schema(minimum = 1)]
    laptop_port: u16,
}

#[derive(Serialize, ToSchema)]
struct SessionBegun {
    session: Session,
    /// A JWT; the laptop presents it inside its carriers.
    grant: String,
    services: Vec<GrantedService>,
    refused: Vec<RefusedService>,
}

#[derive(Serialize, ToSchema)]
struct GrantedService {
    namespace: String,
    name: String,
    ports: Vec<u16>,
}

#[derive(Serialize, ToSchema)]
struct RefusedService {
    service: String,
    reason: String,
    policies: Vec<String>,
}

#[derive(Serialize, ToSchema)]
struct SessionList {
    sessions: Vec<Session>,
}

#[derive(Serialize, ToSchema)]
struct Session {
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
struct TeamspaceOfSession {
    id: Uuid,
    name: String,
}

#[derive(Serialize, ToSchema)]
struct UserOfSession {
    id: Uuid,
    email: String,
}

#[derive(Serialize, ToSchema)]
struct DeviceOfSession {
    id: Uuid,
    name: String,
}

/// What the caller may do with it.
#[derive(Serialize, ToSchema)]
struct SessionMay {
    end: bool,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum SessionKind {
    Consume,
    Intercept,
}

/// `active` only once bytes have passed through the whole path.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Phase {
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

impl From<Granted> for GrantedService {
    fn from(granted: Granted) -> Self {
        Self {
            namespace: granted.service.namespace.into(),
            name: granted.service.name.into(),
            ports: granted.ports.into_iter().map(fairlead_model::Port::get).collect(),
        }
    }
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ListAsked {
    /// Only those that have not ended.
    #[serde(default)]
    live: bool,
}

/// Lists the sessions that the caller sees, the newest first.
#[utoipa::path(
    get, path = "/api/v1/sessions", tag = "sessions", operation_id = "list_sessions", params(ListAsked),
    responses((status = 200, body = SessionList), (status = 401, body = ErrorBody))
)]
async fn list(
    State(hub): State<Hub>,
    Authenticated(caller): Authenticated,
    Asked(asked): Asked<ListAsked>,
) -> Result<Json<SessionList>, Problem> {
    let sessions = sessions::list(&hub, &caller, asked.live).await?;
    Ok(Json(SessionList { sessions: sessions.into_iter().map(Session::from).collect() }))
}

/// Begins a consume or an intercept.
#[utoipa::path(
    post, path = "/api/v1/sessions", tag = "sessions", operation_id = "begin_session",
    request_body = NewSession,
    responses(
        (status = 201, body = SessionBegun), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody),
    )
)]
async fn begin(
    State(hub): State<Hub>,
    Authenticated(caller): Authenticated,
    Body(new): Body<NewSession>,
) -> Result<(StatusCode, Json<SessionBegun>), Problem> {
    let begun = match new {
        NewSession::Consume { teamspace_id, device_id, patterns } => {
            let asked = ConsumeAsked {
                teamspace: TeamspaceId::from_uuid(teamspace_id),
                device: DeviceId::from_uuid(device_id),
                patterns: read_patterns(&patterns)?,
            };
            consume_begun(consume::begin(&hub, &caller, asked).await?)
        }
        NewSession::Intercept { teamspace_id, device_id, service, ports, grace_s } => {
            let asked = InterceptAsked {
                teamspace: TeamspaceId::from_uuid(teamspace_id),
                device: DeviceId::from_uuid(device_id),
                service: service.parse().map_err(|error| Problem::invalid(format!("{error}")))?,
                ports: ports.into_iter().map(read_port).collect::<Result<_, _>>()?,
                grace_s,
            };
            intercept_begun(intercept::begin(&hub, &caller, asked).await?)
        }
    };
    Ok((StatusCode::CREATED, Json(begun)))
}

/// Shows a session.
#[utoipa::path(
    get, path = "/api/v1/sessions/{id}", tag = "sessions", operation_id = "show_session",
    params(("id" = Uuid, Path)),
    responses((status = 200, body = Session), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody))
)]
async fn show(
    State(hub): State<Hub>,
    Authenticated(caller): Authenticated,
    Named(id): Named<SessionId>,
) -> Result<Json<Session>, Problem> {
    Ok(Json(sessions::show(&hub, &caller, id).await?.into()))
}

/// Ends a session. Ending one that has ended is no error.
#[utoipa::path(
    delete, path = "/api/v1/sessions/{id}", tag = "sessions", operation_id = "end_session",
    params(("id" = Uuid, Path)),
    responses(
        (status = 204), (status = 401, body = ErrorBody), (status = 403, body = ErrorBody),
        (status = 404, body = ErrorBody),
    )
)]
async fn end(
    State(hub): State<Hub>,
    Authenticated(caller): Authenticated,
    Named(id): Named<SessionId>,
) -> Result<StatusCode, Problem> {
    sessions::end(&hub, &caller, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn consume_begun(begun: consume::ConsumeBegun) -> SessionBegun {
    let refused = |refused: hub_policy::Refused<hub_policy::actions::Consume>| RefusedService {
        service: refused.action.target.service.to_string(),
        reason: refused.denied.reason,
        policies: refused.denied.policies,
    };
    SessionBegun {
        session: SessionSeen { session: begun.session, may_end: true }.into(),
        grant: begun.grant,
        services: begun.services.into_iter().map(GrantedService::from).collect(),
        refused: begun.refused.into_iter().map(refused).collect(),
    }
}

fn intercept_begun(begun: intercept::InterceptBegun) -> SessionBegun {
    SessionBegun {
        session: SessionSeen { session: begun.session, may_end: true }.into(),
        grant: begun.grant,
        services: begun.services.into_iter().map(GrantedService::from).collect(),
        refused: Vec::new(),
    }
}

fn read_patterns(words: &[String]) -> Result<Patterns, Problem> {
    let parsed: Result<Vec<_>, _> = words.iter().map(|word| word.parse()).collect();
    parsed.and_then(Patterns::new).map_err(|error| Problem::invalid(error.to_string()))
}

fn read_port(port: InterceptPort) -> Result<fairlead_model::InterceptPort, Problem> {
    let some = |number| {
        fairlead_model::Port::new(number)
            .ok_or_else(|| Problem::invalid("`0` is not a port: a number from 1 to 65535"))
    };
    Ok(fairlead_model::InterceptPort {
        service_port: some(port.service_port)?,
        laptop_port: some(port.laptop_port)?,
    })
}
