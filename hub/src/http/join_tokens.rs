//! `/api/v1/teamspaces/{id}/join-tokens` and `/api/v1/join-tokens`

use axum::{Json, extract::State, http::StatusCode};
use fairlead_model::{JoinTokenId, TeamspaceId};
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{error::Problem, extract::Named, refusals::PermittedIfSeen};
use crate::{Hub, actions::join_tokens, login::Authenticated};

pub(super) fn routes() -> OpenApiRouter<Hub> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(delete))
}

/// A token as it is shown once.
#[derive(Serialize, ToSchema)]
struct NewJoinToken {
    id: Uuid,
    token: String,
    expires_at: Timestamp,
}

#[derive(Serialize, ToSchema)]
struct JoinTokenList {
    join_tokens: Vec<JoinToken>,
}

#[derive(Serialize, ToSchema)]
struct JoinToken {
    id: Uuid,
    created_at: Timestamp,
    expires_at: Timestamp,
}

/// Lists the join tokens of a teamspace that can still be used.
#[utoipa::path(
    get, path = "/api/v1/teamspaces/{id}/join-tokens", tag = "teamspaces", operation_id = "list_join_tokens",
    params(("id" = Uuid, Path)),
    responses((status = 200, body = JoinTokenList), PermittedIfSeen)
)]
async fn list(
    State(hub): State<Hub>,
    Authenticated(caller): Authenticated,
    Named(teamspace): Named<TeamspaceId>,
) -> Result<Json<JoinTokenList>, Problem> {
    let tokens = join_tokens::list(&hub, &caller, teamspace).await?.into_iter();
    let join_tokens = tokens
        .map(|token| JoinToken {
            id: token.id.as_uuid(),
            created_at: token.created_at,
            expires_at: token.expires_at,
        })
        .collect();
    Ok(Json(JoinTokenList { join_tokens }))
}

/// Makes a token that lets one cluster join the teamspace, once, within half an hour.
#[utoipa::path(
    post, path = "/api/v1/teamspaces/{id}/join-tokens", tag = "teamspaces", operation_id = "create_join_token",
    params(("id" = Uuid, Path)),
    responses((status = 201, body = NewJoinToken), PermittedIfSeen)
)]
async fn create(
    State(hub): State<Hub>,
    Authenticated(caller): Authenticated,
    Named(teamspace): Named<TeamspaceId>,
) -> Result<(StatusCode, Json<NewJoinToken>), Problem> {
    let (made, secret) = join_tokens::create(&hub, &caller, teamspace).await?;
    let token =
        NewJoinToken { id: made.id.as_uuid(), token: secret.expose(), expires_at: made.expires_at };
    Ok((StatusCode::CREATED, Json(token)))
}

/// Withdraws a join token.
#[utoipa::path(
    delete, path = "/api/v1/join-tokens/{id}", tag = "teamspaces", operation_id = "delete_join_token",
    params(("id" = Uuid, Path)),
    responses((status = 204), PermittedIfSeen)
)]
async fn delete(
    State(hub): State<Hub>,
    Authenticated(caller): Authenticated,
    Named(id): Named<JoinTokenId>,
) -> Result<StatusCode, Problem> {
    join_tokens::delete(&hub, &caller, id).await?;
    Ok(StatusCode::NO_CONTENT)
}
