//! `/api/v1/teamspaces`

use axum::{Json, extract::State, http::StatusCode};
use fairlead_model::TeamspaceId;
use hub_policy::TeamspaceName;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    error::{ErrorBody, Problem},
    extract::{Body, Named},
    refusals::{Permitted, PermittedIfSeen, Seen, SignedIn},
};
use crate::{
    Hub,
    actions::teamspaces::{self, TeamspaceSeen},
    login::Authenticated,
};

pub(super) fn routes() -> OpenApiRouter<Hub> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(show, delete))
        .routes(routes!(unlock))
        .routes(routes!(reset_enrolment))
}

#[derive(Serialize, ToSchema)]
struct TeamspaceList {
    teamspaces: Vec<Teamspace>,
    may: TeamspacesMay,
}

#[derive(Serialize, ToSchema)]
struct TeamspacesMay {
    create: bool,
}

#[derive(Serialize, ToSchema)]
struct Teamspace {
    id: Uuid,
    name: String,
    status: TeamspaceStatus,
    /// Why it is locked.
    lock_reason: Option<String>,
    /// What laptops pin, and people compare with the agent's log.
    key_thumbprint: Option<String>,
    /// The agent replicas that are connected.
    replicas: Vec<Replica>,
    /// How many services its cluster reports.
    services: i64,
    created_at: Timestamp,
    may: TeamspaceMay,
}

/// `waiting` for a cluster to join; `connected` when at least one agent replica is.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum TeamspaceStatus {
    Waiting,
    Connected,
    Disconnected,
    Locked,
}

#[derive(Serialize, ToSchema)]
struct Replica {
    name: String,
    version: String,
    connected_at: Timestamp,
}

/// What the caller may do with it.
#[derive(Serialize, ToSchema)]
struct TeamspaceMay {
    enrol: bool,
    delete: bool,
}

#[derive(Deserialize, ToSchema)]
struct NewTeamspace {
    /// 1 to 63 of a-z, 0-9 and `-`.
    name: String,
}

impl From<TeamspaceSeen> for Teamspace {
    fn from(seen: TeamspaceSeen) -> Self {
        let TeamspaceSeen { teamspace, replicas, services, may_enrol, may_delete } = seen;
        let status = match (&teamspace.lock_reason, &teamspace.enrolment, replicas.is_empty()) {
            (Some(_), _, _) => TeamspaceStatus::Locked,
            (None, None, _) => TeamspaceStatus::Waiting,
            (None, Some(_), true) => TeamspaceStatus::Disconnected,
            (None, Some(_), false) => TeamspaceStatus::Connected,
        };
        let replica = |replica: hub_store::Replica| Replica {
            name: replica.name,
            version: replica.version,
            connected_at: replica.connected_at,
        };
        Self {
            id: teamspace.id.as_uuid(),
            name: teamspace.name.into(),
            status,
            lock_reason: teamspace.lock_reason,
            key_thumbprint: teamspace.enrolment.map(|enrolment| enrolment.key.to_string()),
            replicas: replicas.into_iter().map(replica).collect(),
            services,
            created_at: teamspace.created_at,
            may: TeamspaceMay { enrol: may_enrol, delete: may_delete },
        }
    }
}

/// Lists the teamspaces that the caller sees.
#[utoipa::path(
    get, path = "/api/v1/teamspaces", tag = "teamspaces", operation_id = "list_teamspaces",
    responses((status = 200, body = TeamspaceList), SignedIn)
)]
async fn list(
    State(hub): State<Hub>,
    Authenticated(caller): Authenticated,
) -> Result<Json<TeamspaceList>, Problem> {
    let seen = teamspaces::list(&hub, &caller).await?;
    Ok(Json(TeamspaceList {
        teamspaces: seen.teamspaces.into_iter().map(Teamspace::from).collect(),
        may: TeamspacesMay { create: seen.may_create },
    }))
}

/// Creates a teamspace for a cluster to join.
#[utoipa::path(
    post, path = "/api/v1/teamspaces", tag = "teamspaces", operation_id = "create_teamspace",
    request_body = NewTeamspace,
    responses(
        (status = 201, body = Teamspace), Permitted, (status = 400, body = ErrorBody), (status = 409, body = ErrorBody),
    )
)]
async fn create(
    State(hub): State<Hub>,
    Authenticated(caller): Authenticated,
    Body(new): Body<NewTeamspace>,
) -> Result<(StatusCode, Json<Teamspace>), Problem> {
    let name: TeamspaceName =
        new.name.parse().map_err(|error| Problem::invalid(format!("{error}")))?;
    let seen = teamspaces::create(&hub, &caller, name).await?;
    Ok((StatusCode::CREATED, Json(seen.into())))
}

/// Shows a teamspace.
#[utoipa::path(
    get, path = "/api/v1/teamspaces/{id}", tag = "teamspaces", operation_id = "show_teamspace",
    params(("id" = Uuid, Path)),
    responses((status = 200, body = Teamspace), Seen)
)]
async fn show(
    State(hub): State<Hub>,
    Authenticated(caller): Authenticated,
    Named(id): Named<TeamspaceId>,
) -> Result<Json<Teamspace>, Problem> {
    Ok(Json(teamspaces::show(&hub, &caller, id).await?.into()))
}

/// Deletes a teamspace, and ends everything in it.
#[utoipa::path(
    delete, path = "/api/v1/teamspaces/{id}", tag = "teamspaces", operation_id = "delete_teamspace",
    params(("id" = Uuid, Path)),
    responses((status = 204), PermittedIfSeen)
)]
async fn delete(
    State(hub): State<Hub>,
    Authenticated(caller): Authenticated,
    Named(id): Named<TeamspaceId>,
) -> Result<StatusCode, Problem> {
    teamspaces::delete(&hub, &caller, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lets a teamspace go on that was locked because its key was seen in two clusters.
#[utoipa::path(
    delete, path = "/api/v1/teamspaces/{id}/lock", tag = "teamspaces", operation_id = "unlock_teamspace",
    params(("id" = Uuid, Path)),
    responses((status = 204), PermittedIfSeen)
)]
async fn unlock(
    State(hub): State<Hub>,
    Authenticated(caller): Authenticated,
    Named(id): Named<TeamspaceId>,
) -> Result<StatusCode, Problem> {
    teamspaces::unlock(&hub, &caller, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Forgets the cluster that joined a teamspace, so that another one may. Everything in it ends.
#[utoipa::path(
    delete, path = "/api/v1/teamspaces/{id}/enrolment", tag = "teamspaces", operation_id = "reset_enrolment",
    params(("id" = Uuid, Path)),
    responses((status = 204), PermittedIfSeen)
)]
async fn reset_enrolment(
    State(hub): State<Hub>,
    Authenticated(caller): Authenticated,
    Named(id): Named<TeamspaceId>,
) -> Result<StatusCode, Problem> {
    teamspaces::reset_enrolment(&hub, &caller, id).await?;
    Ok(StatusCode::NO_CONTENT)
}
