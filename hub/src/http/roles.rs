//! `/api/v1/roles`, and how roles are written in requests.

use axum::{Json, http::StatusCode};
use hub_policy::{Caller, Role, actions::RoleHolder};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{error::Problem, refusals::SignedIn};
use crate::{Hub, actions::members, login::Authenticated};

pub(super) fn routes() -> OpenApiRouter<Hub> {
    OpenApiRouter::new().routes(routes!(list))
}

#[derive(Serialize, ToSchema)]
struct RoleList {
    roles: Vec<RoleView>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Role)]
struct RoleView {
    name: String,
    description: String,
}

/// The roles that somebody is to have from now on.
#[derive(Deserialize, ToSchema)]
pub(super) struct RoleNames {
    /// Of owner, admin, auditor, developer, viewer; empty takes all away.
    roles: Vec<String>,
}

impl RoleNames {
    fn parse(&self) -> Result<Vec<Role>, Problem> {
        self.roles.iter().map(|name| parse(name)).collect()
    }
}

pub(super) fn parse(name: &str) -> Result<Role, Problem> {
    name.parse().map_err(|error| Problem::invalid(format!("{error}")))
}

pub(super) fn names(roles: &[Role]) -> Vec<String> {
    roles.iter().map(ToString::to_string).collect()
}

/// Gives a member or a group the roles that were asked for, in place of those it has.
pub(super) async fn replace(
    hub: &Hub,
    caller: &Caller,
    holder: RoleHolder,
    wanted: &RoleNames,
) -> Result<StatusCode, Problem> {
    members::set_roles(hub, caller, holder, wanted.parse()?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lists the built-in roles.
#[utoipa::path(
    get, path = "/api/v1/roles", tag = "roles", operation_id = "list_roles",
    responses((status = 200, body = RoleList), SignedIn)
)]
async fn list(_: Authenticated) -> Json<RoleList> {
    let view = |role: Role| RoleView {
        name: role.to_string(),
        description: role.description().to_owned(),
    };
    Json(RoleList { roles: Role::ALL.into_iter().map(view).collect() })
}
