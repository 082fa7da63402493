//! `/api/v1/setup` and `/api/v1/sign-in`: what the console asks before anybody is signed in.

use axum::{Json, extract::State, http::StatusCode};
use fairlead_model::{Token, TokenKind};
use hub_store::LinkPurpose;
use jiff::Timestamp;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    error::{ErrorBody, Problem},
    extract::{Asked, Body},
    roles,
};
use crate::{
    Hub,
    actions::{connections, setup},
};

pub(super) fn routes() -> OpenApiRouter<Hub> {
    OpenApiRouter::new().routes(routes!(show, found)).routes(routes!(sign_in))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Link {
    /// As in the link that the hub printed: `fls_…`.
    token: String,
}

#[derive(Serialize, ToSchema)]
struct SetupLink {
    expires_at: Timestamp,
}

#[derive(Deserialize, ToSchema)]
struct Setup {
    token: String,
    organization: NewOrganization,
    /// Becomes owner at the first sign-in.
    owner_email: String,
    oidc: NewConnection,
    /// Which roles the groups of the issuer give.
    #[serde(default)]
    group_roles: Vec<GroupRole>,
}

#[derive(Deserialize, ToSchema)]
struct NewOrganization {
    /// 1 to 63 of a-z, 0-9 and `-`.
    slug: String,
    name: String,
}

#[derive(Deserialize, ToSchema)]
struct NewConnection {
    /// The address before `/.well-known/openid-configuration`.
    issuer: String,
    client_id: String,
    /// A public client has none.
    #[schema(value_type = Option<String>)]
    client_secret: Option<SecretString>,
    /// The claim that holds the groups; `groups` when empty.
    #[serde(default)]
    groups_claim: String,
    /// Besides `openid`.
    #[serde(default = "default_scopes")]
    scopes: Vec<String>,
    /// Addresses of these domains count as verified.
    #[serde(default)]
    email_domains: Vec<String>,
}

#[derive(Deserialize, ToSchema)]
struct GroupRole {
    group: String,
    role: String,
}

#[derive(Serialize, ToSchema)]
struct FoundedOrganization {
    id: Uuid,
    slug: String,
    name: String,
}

#[derive(Serialize, ToSchema)]
struct SignIn {
    /// There is an organization to sign in to.
    ready: bool,
    /// There is more than one issuer: the address decides which.
    ask_email: bool,
}

fn default_scopes() -> Vec<String> {
    ["email", "profile"].map(ToOwned::to_owned).to_vec()
}

/// Says whether a setup link counts.
#[utoipa::path(
    get, path = "/api/v1/setup", tag = "setup", operation_id = "show_setup_link", params(Link),
    responses((status = 200, body = SetupLink), (status = 404, body = ErrorBody))
)]
async fn show(
    State(hub): State<Hub>,
    Asked(link): Asked<Link>,
) -> Result<Json<SetupLink>, Problem> {
    let token = read_token(&link.token)?;
    let store = hub.store.unscoped("setup: the link stands for the operator");
    match store.setup_link(&token.hash(), hub.clock.now()).await? {
        Some(link) if link.purpose == LinkPurpose::Setup => {
            Ok(Json(SetupLink { expires_at: link.expires_at }))
        }
        _ => Err(unknown_link()),
    }
}

/// Founds an organization with its owner and its first issuer. The link is spent by it.
#[utoipa::path(
    post, path = "/api/v1/setup", tag = "setup", operation_id = "found_organization", request_body = Setup,
    responses(
        (status = 201, body = FoundedOrganization), (status = 400, body = ErrorBody),
        (status = 404, body = ErrorBody), (status = 409, body = ErrorBody),
    )
)]
async fn found(
    State(hub): State<Hub>,
    Body(asked): Body<Setup>,
) -> Result<(StatusCode, Json<FoundedOrganization>), Problem> {
    let token = read_token(&asked.token)?;
    let group_roles = asked
        .group_roles
        .into_iter()
        .map(|pair| Ok((pair.group, roles::parse(&pair.role)?)))
        .collect::<Result<_, Problem>>()?;
    let wanted = setup::Wanted {
        slug: asked.organization.slug,
        name: asked.organization.name,
        owner_email: asked.owner_email,
        connection: connections::Wanted {
            issuer: asked.oidc.issuer,
            client_id: asked.oidc.client_id,
            groups_claim: asked.oidc.groups_claim,
            scopes: asked.oidc.scopes,
            email_domains: asked.oidc.email_domains,
        },
        client_secret: asked.oidc.client_secret.unwrap_or_default(),
        group_roles,
    };
    let organization = setup::found(&hub, &token, wanted).await?;
    let view = FoundedOrganization {
        id: organization.id.as_uuid(),
        slug: organization.slug,
        name: organization.name,
    };
    Ok((StatusCode::CREATED, Json(view)))
}

/// Says how people sign in here.
#[utoipa::path(
    get, path = "/api/v1/sign-in", tag = "setup", operation_id = "show_sign_in",
    responses((status = 200, body = SignIn))
)]
async fn sign_in(State(hub): State<Hub>) -> Result<Json<SignIn>, Problem> {
    let store = hub.store.unscoped("setup: nobody is signed in yet");
    let connections = store.first_oidc_connections(2).await?;
    Ok(Json(SignIn { ready: !connections.is_empty(), ask_email: connections.len() > 1 }))
}

fn read_token(text: &str) -> Result<Token, Problem> {
    Token::parse_as(TokenKind::Setup, text).map_err(|_| unknown_link())
}

fn unknown_link() -> Problem {
    Problem::not_found("setup link that can be used: it is unknown, has been used, or has expired")
        .hint("on the hub's host: fairlead-hub admin setup-url")
}
