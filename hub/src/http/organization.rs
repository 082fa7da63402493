//! `/api/v1/organization`: the caller's own, and its connections to issuers.

use axum::{Json, extract::State, http::StatusCode};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    error::{ErrorBody, Problem},
    extract::{Body, Named},
    refusals::{Permitted, PermittedIfSeen},
};
use crate::{Hub, actions::connections, login::Authenticated};

pub(super) fn routes() -> OpenApiRouter<Hub> {
    OpenApiRouter::new().routes(routes!(show)).routes(routes!(change_connection))
}

#[derive(Serialize, ToSchema)]
struct Organization {
    id: Uuid,
    slug: String,
    name: String,
    connections: Vec<Connection>,
}

/// A registration at an issuer. Its secret is never shown.
#[derive(Serialize, ToSchema)]
struct Connection {
    id: Uuid,
    issuer: String,
    client_id: String,
    groups_claim: String,
    scopes: Vec<String>,
    email_domains: Vec<String>,
}

#[derive(Deserialize, ToSchema)]
struct ChangedConnection {
    issuer: String,
    client_id: String,
    /// Without it the secret stays as it is; an empty one makes the client public.
    #[schema(value_type = Option<String>)]
    client_secret: Option<SecretString>,
    groups_claim: String,
    scopes: Vec<String>,
    email_domains: Vec<String>,
}

/// Shows the organization and its connections.
#[utoipa::path(
    get, path = "/api/v1/organization", tag = "organization", operation_id = "show_organization",
    responses((status = 200, body = Organization), Permitted)
)]
async fn show(
    State(hub): State<Hub>,
    Authenticated(caller): Authenticated,
) -> Result<Json<Organization>, Problem> {
    let (organization, found) = connections::list(&hub, &caller).await?;
    let view = |connection: hub_store::OidcConnection| Connection {
        id: connection.id,
        issuer: connection.issuer,
        client_id: connection.client_id,
        groups_claim: connection.groups_claim,
        scopes: connection.scopes,
        email_domains: connection.email_domains,
    };
    Ok(Json(Organization {
        id: organization.id.as_uuid(),
        slug: organization.slug,
        name: organization.name,
        connections: found.into_iter().map(view).collect(),
    }))
}

/// Changes a connection; its users stay who they are.
#[utoipa::path(
    put, path = "/api/v1/organization/connections/{id}", tag = "organization",
    operation_id = "change_connection",
    params(("id" = Uuid, Path)), request_body = ChangedConnection,
    responses((status = 204), PermittedIfSeen, (status = 400, body = ErrorBody))
)]
async fn change_connection(
    State(hub): State<Hub>,
    Authenticated(caller): Authenticated,
    Named(id): Named<Uuid>,
    Body(changed): Body<ChangedConnection>,
) -> Result<StatusCode, Problem> {
    let wanted = connections::Wanted {
        issuer: changed.issuer,
        client_id: changed.client_id,
        groups_claim: changed.groups_claim,
        scopes: changed.scopes,
        email_domains: changed.email_domains,
    };
    connections::change(&hub, &caller, id, wanted, changed.client_secret).await?;
    Ok(StatusCode::NO_CONTENT)
}
