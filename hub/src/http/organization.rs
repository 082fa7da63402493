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
use crate::{
    Hub,
    actions::{connections, organization},
    login::Authenticated,
};

pub(super) fn routes() -> OpenApiRouter<Hub> {
    OpenApiRouter::new()
        .routes(routes!(show, rename))
        .routes(routes!(add_connection))
        .routes(routes!(change_connection, remove_connection))
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
struct OrganizationName {
    name: String,
}

#[derive(Deserialize, ToSchema)]
struct ConnectionWanted {
    issuer: String,
    client_id: String,
    /// Of a connection that is changed: without it the secret stays as it is. An empty one makes the client public.
    #[schema(value_type = Option<String>)]
    client_secret: Option<SecretString>,
    groups_claim: String,
    scopes: Vec<String>,
    /// Each leads to one connection of the hub. Where there are several connections, each needs one.
    email_domains: Vec<String>,
}

impl ConnectionWanted {
    fn read(self) -> (connections::Wanted, Option<SecretString>) {
        let wanted = connections::Wanted {
            issuer: self.issuer,
            client_id: self.client_id,
            groups_claim: self.groups_claim,
            scopes: self.scopes,
            email_domains: self.email_domains,
        };
        (wanted, self.client_secret)
    }
}

#[derive(Serialize, ToSchema)]
struct AddedConnection {
    id: Uuid,
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

/// Gives the organization another name; its short name stays.
#[utoipa::path(
    patch, path = "/api/v1/organization", tag = "organization", operation_id = "rename_organization",
    request_body = OrganizationName,
    responses((status = 204), Permitted, (status = 400, body = ErrorBody))
)]
async fn rename(
    State(hub): State<Hub>,
    Authenticated(caller): Authenticated,
    Body(wanted): Body<OrganizationName>,
) -> Result<StatusCode, Problem> {
    organization::rename(&hub, &caller, &wanted.name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Adds a connection by which members may sign in besides those there are.
#[utoipa::path(
    post, path = "/api/v1/organization/connections", tag = "organization", operation_id = "add_connection",
    request_body = ConnectionWanted,
    responses(
        (status = 201, body = AddedConnection), Permitted, (status = 400, body = ErrorBody),
        (status = 409, body = ErrorBody),
    )
)]
async fn add_connection(
    State(hub): State<Hub>,
    Authenticated(caller): Authenticated,
    Body(wanted): Body<ConnectionWanted>,
) -> Result<(StatusCode, Json<AddedConnection>), Problem> {
    let (wanted, secret) = wanted.read();
    let id = connections::add(&hub, &caller, wanted, &secret.unwrap_or_default()).await?;
    Ok((StatusCode::CREATED, Json(AddedConnection { id })))
}

/// Changes a connection; its users stay who they are.
#[utoipa::path(
    put, path = "/api/v1/organization/connections/{id}", tag = "organization",
    operation_id = "change_connection",
    params(("id" = Uuid, Path)), request_body = ConnectionWanted,
    responses(
        (status = 204), PermittedIfSeen, (status = 400, body = ErrorBody), (status = 409, body = ErrorBody),
    )
)]
async fn change_connection(
    State(hub): State<Hub>,
    Authenticated(caller): Authenticated,
    Named(id): Named<Uuid>,
    Body(wanted): Body<ConnectionWanted>,
) -> Result<StatusCode, Problem> {
    let (wanted, secret) = wanted.read();
    connections::change(&hub, &caller, id, wanted, secret).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Removes a connection, never the last one: whoever signed in by it is signed out, and stays a member.
#[utoipa::path(
    delete, path = "/api/v1/organization/connections/{id}", tag = "organization",
    operation_id = "remove_connection",
    params(("id" = Uuid, Path)),
    responses((status = 204), PermittedIfSeen, (status = 409, body = ErrorBody))
)]
async fn remove_connection(
    State(hub): State<Hub>,
    Authenticated(caller): Authenticated,
    Named(id): Named<Uuid>,
) -> Result<StatusCode, Problem> {
    connections::remove(&hub, &caller, id).await?;
    Ok(StatusCode::NO_CONTENT)
}
