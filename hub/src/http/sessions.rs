//! `/api/v1/sessions`

mod views;

use axum::{Json, extract::State, http::StatusCode};
use fairlead_model::{DeviceId, Patterns, SessionId, TeamspaceId};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

pub(super) use self::views::Phase;
use self::views::{ConsumePatterns, InterceptPort, NewSession, Session, SessionBegun, SessionList};
use super::{
    error::{ErrorBody, Problem},
    extract::{Asked, Body, Named},
    refusals::{PermittedIfSeen, Seen, SignedIn},
};
use crate::{
    Hub,
    actions::{
        change::change as change_consume,
        consume::{self, ConsumeAsked},
        intercept::{self, InterceptAsked},
        sessions,
    },
    login::Authenticated,
};

pub(super) fn routes() -> OpenApiRouter<Hub> {
    OpenApiRouter::new()
        .routes(routes!(list, begin))
        .routes(routes!(show, end))
        .routes(routes!(change))
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
    responses((status = 200, body = SessionList), SignedIn)
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
        (status = 201, body = SessionBegun), PermittedIfSeen, (status = 400, body = ErrorBody), (status = 409, body = ErrorBody),
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
            consume::begin(&hub, &caller, asked).await?.into()
        }
        NewSession::Intercept { teamspace_id, device_id, service, ports, grace_s } => {
            let asked = InterceptAsked {
                teamspace: TeamspaceId::from_uuid(teamspace_id),
                device: DeviceId::from_uuid(device_id),
                service: service.parse().map_err(|error| Problem::invalid(format!("{error}")))?,
                ports: ports.into_iter().map(InterceptPort::read).collect::<Result<_, _>>()?,
                grace_s,
            };
            intercept::begin(&hub, &caller, asked).await?.into()
        }
    };
    Ok((StatusCode::CREATED, Json(begun)))
}

/// Shows a session.
#[utoipa::path(
    get, path = "/api/v1/sessions/{id}", tag = "sessions", operation_id = "show_session",
    params(("id" = Uuid, Path)),
    responses((status = 200, body = Session), Seen)
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
    responses((status = 204), PermittedIfSeen)
)]
async fn end(
    State(hub): State<Hub>,
    Authenticated(caller): Authenticated,
    Named(id): Named<SessionId>,
) -> Result<StatusCode, Problem> {
    sessions::end(&hub, &caller, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Changes what a consume of the caller is about. It stays the same session, and open connections to what it still
/// reaches go on.
#[utoipa::path(
    put, path = "/api/v1/sessions/{id}/patterns", tag = "sessions", operation_id = "change_consume",
    params(("id" = Uuid, Path)), request_body = ConsumePatterns,
    responses(
        (status = 200, body = SessionBegun), PermittedIfSeen, (status = 400, body = ErrorBody), (status = 409, body = ErrorBody),
    )
)]
async fn change(
    State(hub): State<Hub>,
    Authenticated(caller): Authenticated,
    Named(id): Named<SessionId>,
    Body(wanted): Body<ConsumePatterns>,
) -> Result<Json<SessionBegun>, Problem> {
    let patterns = read_patterns(&wanted.patterns)?;
    Ok(Json(change_consume(&hub, &caller, id, patterns).await?.into()))
}

fn read_patterns(words: &[String]) -> Result<Patterns, Problem> {
    let parsed: Result<Vec<_>, _> = words.iter().map(|word| word.parse()).collect();
    parsed.and_then(Patterns::new).map_err(|error| Problem::invalid(error.to_string()))
}
