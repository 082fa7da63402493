//! `/api/v1/members`

use axum::{Json, extract::State, http::StatusCode};
use fairlead_model::UserId;
use hub_policy::actions::RoleHolder;
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    error::{ErrorBody, Problem},
    extract::{Body, Named},
    refusals::{Permitted, PermittedIfSeen},
    roles::{self, RoleNames},
};
use crate::{Hub, actions::members, login::Authenticated};

pub(super) fn routes() -> OpenApiRouter<Hub> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(remove))
        .routes(routes!(restore))
        .routes(routes!(set_roles))
}

#[derive(Serialize, ToSchema)]
struct MemberList {
    members: Vec<Member>,
}

#[derive(Serialize, ToSchema)]
struct Member {
    id: Uuid,
    email: String,
    name: String,
    /// Bound to the member itself.
    roles: Vec<String>,
    /// With what the groups give.
    effective_roles: Vec<String>,
    groups: Vec<String>,
    last_signed_in_at: Option<Timestamp>,
    /// Removed: may not sign in.
    disabled: bool,
}

impl From<hub_store::Member> for Member {
    fn from(member: hub_store::Member) -> Self {
        Self {
            id: member.id.as_uuid(),
            email: member.email,
            name: member.name,
            roles: roles::names(&member.roles),
            effective_roles: roles::names(&member.effective_roles),
            groups: member.groups,
            last_signed_in_at: member.last_signed_in_at,
            disabled: member.disabled,
        }
    }
}

/// Lists the members of the organization.
#[utoipa::path(
    get, path = "/api/v1/members", tag = "members", operation_id = "list_members",
    responses((status = 200, body = MemberList), Permitted)
)]
async fn list(
    State(hub): State<Hub>,
    Authenticated(caller): Authenticated,
) -> Result<Json<MemberList>, Problem> {
    let members = members::list(&hub, &caller).await?;
    Ok(Json(MemberList { members: members.into_iter().map(Member::from).collect() }))
}

/// Removes a member: everything with which they could act ends at once, and they may not sign in.
#[utoipa::path(
    delete, path = "/api/v1/members/{id}", tag = "members", operation_id = "remove_member",
    params(("id" = Uuid, Path)),
    responses((status = 204), PermittedIfSeen, (status = 409, body = ErrorBody))
)]
async fn remove(
    State(hub): State<Hub>,
    Authenticated(caller): Authenticated,
    Named(id): Named<UserId>,
) -> Result<StatusCode, Problem> {
    members::remove(&hub, &caller, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lets a removed member in again, with the roles they had.
#[utoipa::path(
    post, path = "/api/v1/members/{id}/restore", tag = "members", operation_id = "restore_member",
    params(("id" = Uuid, Path)),
    responses((status = 204), PermittedIfSeen, (status = 409, body = ErrorBody))
)]
async fn restore(
    State(hub): State<Hub>,
    Authenticated(caller): Authenticated,
    Named(id): Named<UserId>,
) -> Result<StatusCode, Problem> {
    members::restore(&hub, &caller, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Replaces the organization-wide roles of a member.
#[utoipa::path(
    put, path = "/api/v1/members/{id}/roles", tag = "members", operation_id = "set_member_roles",
    params(("id" = Uuid, Path)), request_body = RoleNames,
    responses((status = 204), PermittedIfSeen, (status = 400, body = ErrorBody), (status = 409, body = ErrorBody))
)]
async fn set_roles(
    State(hub): State<Hub>,
    Authenticated(caller): Authenticated,
    Named(id): Named<UserId>,
    Body(wanted): Body<RoleNames>,
) -> Result<StatusCode, Problem> {
    roles::replace(&hub, &caller, RoleHolder::User(id), &wanted).await
}
