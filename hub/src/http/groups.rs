//! `/api/v1/groups`

use axum::{Json, extract::State, http::StatusCode};
use fairlead_model::GroupId;
use hub_policy::actions::RoleHolder;
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
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(set_roles))
}

#[derive(Serialize, ToSchema)]
struct GroupList {
    groups: Vec<Group>,
}

#[derive(Serialize, ToSchema)]
struct Group {
    id: Uuid,
    /// As the issuer names it.
    name: String,
    members: i64,
    roles: Vec<String>,
}

/// Lists the groups that issuers have named, and the roles they give.
#[utoipa::path(
    get, path = "/api/v1/groups", tag = "groups", operation_id = "list_groups",
    responses((status = 200, body = GroupList), Permitted)
)]
async fn list(
    State(hub): State<Hub>,
    Authenticated(caller): Authenticated,
) -> Result<Json<GroupList>, Problem> {
    let groups = members::list_groups(&hub, &caller).await?;
    let view = |group: hub_store::Group| Group {
        id: group.id.as_uuid(),
        name: group.name,
        members: group.members,
        roles: roles::names(&group.roles),
    };
    Ok(Json(GroupList { groups: groups.into_iter().map(view).collect() }))
}

/// Replaces the organization-wide roles that a group gives to its members.
#[utoipa::path(
    put, path = "/api/v1/groups/{id}/roles", tag = "groups", operation_id = "set_group_roles",
    params(("id" = Uuid, Path)), request_body = RoleNames,
    responses((status = 204), PermittedIfSeen, (status = 400, body = ErrorBody), (status = 409, body = ErrorBody))
)]
async fn set_roles(
    State(hub): State<Hub>,
    Authenticated(caller): Authenticated,
    Named(id): Named<GroupId>,
    Body(wanted): Body<RoleNames>,
) -> Result<StatusCode, Problem> {
    roles::replace(&hub, &caller, RoleHolder::Group(id), &wanted).await
}
