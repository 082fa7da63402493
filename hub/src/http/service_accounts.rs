//! `/api/v1/service-accounts` and `/api/v1/api-tokens`

use axum::{Json, extract::State, http::StatusCode};
use fairlead_model::{ApiTokenId, UserId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    error::{ErrorBody, Problem},
    extract::{Body, Named},
    refusals::{Permitted, PermittedIfSeen},
    roles,
};
use crate::{Hub, actions::service_accounts, login::Authenticated};

pub(super) fn routes() -> OpenApiRouter<Hub> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(delete))
        .routes(routes!(create_token))
        .routes(routes!(revoke_token))
}

#[derive(Serialize, ToSchema)]
struct ServiceAccountList {
    service_accounts: Vec<ServiceAccount>,
}

#[derive(Serialize, ToSchema)]
struct ServiceAccount {
    id: Uuid,
    name: String,
    roles: Vec<String>,
    /// Where the roles count, by name; null: in every teamspace.
    teamspaces: Option<Vec<String>>,
    created_at: Timestamp,
    /// Those that count.
    tokens: Vec<ApiToken>,
}

#[derive(Serialize, ToSchema)]
struct ApiToken {
    id: Uuid,
    name: String,
    created_at: Timestamp,
    expires_at: Timestamp,
    last_used_at: Option<Timestamp>,
}

impl From<hub_store::ServiceAccount> for ServiceAccount {
    fn from(account: hub_store::ServiceAccount) -> Self {
        let token = |token: hub_store::ApiToken| ApiToken {
            id: token.id.as_uuid(),
            name: token.name,
            created_at: token.created_at,
            expires_at: token.expires_at,
            last_used_at: token.last_used_at,
        };
        Self {
            id: account.id.as_uuid(),
            name: account.name,
            roles: roles::names(&account.roles),
            teamspaces: account
                .teamspaces
                .map(|names| names.iter().map(ToString::to_string).collect()),
            created_at: account.created_at,
            tokens: account.tokens.into_iter().map(token).collect(),
        }
    }
}

#[derive(Deserialize, ToSchema)]
struct NewServiceAccount {
    /// Lower-case letters, digits and `-`.
    name: String,
    /// Of developer and viewer.
    roles: Vec<String>,
    /// Where the roles count; everywhere when it is left out.
    teamspaces: Option<Vec<Uuid>>,
}

#[derive(Serialize, ToSchema)]
struct ServiceAccountMade {
    id: Uuid,
}

#[derive(Deserialize, ToSchema)]
struct NewApiToken {
    /// What it is for.
    name: String,
    /// How long it lives; 30 when it is not said, and at most 90.
    days: Option<u16>,
}

/// A token as it is shown once.
#[derive(Serialize, ToSchema)]
struct ApiTokenMade {
    id: Uuid,
    token: String,
    expires_at: Timestamp,
}

/// Lists the service accounts of the organization, with their tokens.
#[utoipa::path(
    get, path = "/api/v1/service-accounts", tag = "service-accounts", operation_id = "list_service_accounts",
    responses((status = 200, body = ServiceAccountList), Permitted)
)]
async fn list(
    State(hub): State<Hub>,
    Authenticated(caller): Authenticated,
) -> Result<Json<ServiceAccountList>, Problem> {
    let accounts = service_accounts::list(&hub, &caller).await?.into_iter();
    Ok(Json(ServiceAccountList { service_accounts: accounts.map(Into::into).collect() }))
}

/// Makes a service account.
#[utoipa::path(
    post, path = "/api/v1/service-accounts", tag = "service-accounts", operation_id = "create_service_account",
    request_body = NewServiceAccount,
    responses(
        (status = 201, body = ServiceAccountMade), PermittedIfSeen,
        (status = 400, body = ErrorBody), (status = 409, body = ErrorBody)
    )
)]
async fn create(
    State(hub): State<Hub>,
    Authenticated(caller): Authenticated,
    Body(new): Body<NewServiceAccount>,
) -> Result<(StatusCode, Json<ServiceAccountMade>), Problem> {
    let roles = new.roles.iter().map(|name| roles::parse(name)).collect::<Result<_, _>>()?;
    let teamspaces = new.teamspaces.map(|ids| ids.into_iter().map(Into::into).collect());
    let id = service_accounts::create(&hub, &caller, new.name, roles, teamspaces).await?;
    Ok((StatusCode::CREATED, Json(ServiceAccountMade { id: id.as_uuid() })))
}

/// Deletes a service account: its tokens and everything that lives by them end at once.
#[utoipa::path(
    delete, path = "/api/v1/service-accounts/{id}", tag = "service-accounts", operation_id = "delete_service_account",
    params(("id" = Uuid, Path)),
    responses((status = 204), PermittedIfSeen)
)]
async fn delete(
    State(hub): State<Hub>,
    Authenticated(caller): Authenticated,
    Named(id): Named<UserId>,
) -> Result<StatusCode, Problem> {
    service_accounts::delete(&hub, &caller, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Makes a token with which a program signs in as the service account. It is shown once.
#[utoipa::path(
    post, path = "/api/v1/service-accounts/{id}/tokens", tag = "service-accounts", operation_id = "create_api_token",
    params(("id" = Uuid, Path)), request_body = NewApiToken,
    responses(
        (status = 201, body = ApiTokenMade), PermittedIfSeen,
        (status = 400, body = ErrorBody), (status = 409, body = ErrorBody)
    )
)]
async fn create_token(
    State(hub): State<Hub>,
    Authenticated(caller): Authenticated,
    Named(account): Named<UserId>,
    Body(new): Body<NewApiToken>,
) -> Result<(StatusCode, Json<ApiTokenMade>), Problem> {
    let (id, token, expires_at) =
        service_accounts::create_token(&hub, &caller, account, new.name, new.days).await?;
    let made = ApiTokenMade { id: id.as_uuid(), token: token.expose(), expires_at };
    Ok((StatusCode::CREATED, Json(made)))
}

/// Revokes a token of a service account: whatever signed in with it is out at once.
#[utoipa::path(
    delete, path = "/api/v1/api-tokens/{id}", tag = "service-accounts", operation_id = "revoke_api_token",
    params(("id" = Uuid, Path)),
    responses((status = 204), PermittedIfSeen)
)]
async fn revoke_token(
    State(hub): State<Hub>,
    Authenticated(caller): Authenticated,
    Named(id): Named<ApiTokenId>,
) -> Result<StatusCode, Problem> {
    service_accounts::revoke_token(&hub, &caller, id).await?;
    Ok(StatusCode::NO_CONTENT)
}
