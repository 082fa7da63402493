//! `/api/v1/me`

use axum::{Json, extract::State};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{error::Problem, refusals::SignedIn};
use crate::{Hub, actions::service_accounts, login::Authenticated};

pub(super) fn routes() -> OpenApiRouter<Hub> {
    OpenApiRouter::new().routes(routes!(show))
}

#[derive(Serialize, ToSchema)]
struct Me {
    user: MyUser,
    organization: MyOrganization,
    /// Organization-wide, the most powerful first.
    roles: Vec<String>,
    groups: Vec<String>,
    may: MyPermissions,
}

/// What of the console is of use to the caller.
#[derive(Serialize, ToSchema)]
struct MyPermissions {
    manage_service_accounts: bool,
}

#[derive(Serialize, ToSchema)]
struct MyUser {
    id: Uuid,
    email: String,
    name: String,
}

#[derive(Serialize, ToSchema)]
struct MyOrganization {
    id: Uuid,
    slug: String,
    name: String,
}

/// Says who the caller is.
#[utoipa::path(
    get, path = "/api/v1/me", tag = "me", operation_id = "show_me",
    responses((status = 200, body = Me), SignedIn)
)]
async fn show(
    State(hub): State<Hub>,
    Authenticated(caller): Authenticated,
) -> Result<Json<Me>, Problem> {
    let scope = hub.store.scoped(caller.org);
    let organization = scope.organization().await?;
    let roles = caller.roles_everywhere().iter().map(ToString::to_string).collect();
    let may = MyPermissions {
        manage_service_accounts: service_accounts::may_manage(&hub, &caller).await?,
    };
    Ok(Json(Me {
        user: MyUser {
            id: caller.actor.user().as_uuid(),
            name: scope.name_of(caller.actor.user()).await?,
            email: caller.actor.email().to_owned(),
        },
        organization: MyOrganization {
            id: organization.id.as_uuid(),
            slug: organization.slug,
            name: organization.name,
        },
        roles,
        groups: caller.groups,
        may,
    }))
}
