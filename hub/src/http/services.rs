//! `/api/v1/teamspaces/{id}/services`

use axum::{Json, extract::State};
use fairlead_model::TeamspaceId;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{error::Problem, extract::Named, refusals::Seen, sessions::Phase};
use crate::{
    Hub,
    actions::services::{self, ServiceSeen},
    login::Authenticated,
};

pub(super) fn routes() -> OpenApiRouter<Hub> {
    OpenApiRouter::new().routes(routes!(list))
}

#[derive(Serialize, ToSchema)]
struct ServiceList {
    services: Vec<Service>,
}

#[derive(Serialize, ToSchema)]
struct Service {
    namespace: String,
    name: String,
    #[serde(rename = "type")]
    kind: String,
    ports: Vec<ServicePort>,
    /// `Deployment/cart`; null where nothing owns the pods.
    workload: Option<String>,
    ready_endpoints: i32,
    may: ServiceMay,
    /// Why it cannot be intercepted.
    intercept_refusal: Option<String>,
    intercepts: Vec<ServiceIntercept>,
}

#[derive(Serialize, ToSchema)]
struct ServicePort {
    /// Empty where the service has a single unnamed port.
    name: String,
    port: u16,
    protocol: String,
    target_port: String,
}

/// What the caller may do with it.
#[derive(Serialize, ToSchema)]
struct ServiceMay {
    consume: bool,
    intercept: bool,
}

#[derive(Serialize, ToSchema)]
struct ServiceIntercept {
    session_id: Uuid,
    email: String,
    phase: Phase,
}

impl From<ServiceSeen> for Service {
    fn from(seen: ServiceSeen) -> Self {
        let ServiceSeen { service, may_consume, may_intercept, intercepts } = seen;
        let port = |port: hub_store::PortOfService| ServicePort {
            name: port.name,
            port: port.port.get(),
            protocol: port.protocol.to_string(),
            target_port: port.target_port,
        };
        let intercept = |intercept: services::InterceptSeen| ServiceIntercept {
            session_id: intercept.session.as_uuid(),
            email: intercept.email,
            phase: intercept.phase.into(),
        };
        Self {
            namespace: service.service.namespace.into(),
            name: service.service.name.into(),
            kind: service.kind,
            ports: service.ports.into_iter().map(port).collect(),
            workload: service.workload,
            ready_endpoints: service.ready_endpoints,
            may: ServiceMay { consume: may_consume, intercept: may_intercept },
            intercept_refusal: service.intercept_refusal,
            intercepts: intercepts.into_iter().map(intercept).collect(),
        }
    }
}

/// Lists the services of a teamspace that the caller sees, and what they may do with each.
#[utoipa::path(
    get, path = "/api/v1/teamspaces/{id}/services", tag = "services", operation_id = "list_services",
    params(("id" = Uuid, Path)),
    responses((status = 200, body = ServiceList), Seen)
)]
async fn list(
    State(hub): State<Hub>,
    Authenticated(caller): Authenticated,
    Named(teamspace): Named<TeamspaceId>,
) -> Result<Json<ServiceList>, Problem> {
    let services = services::list(&hub, &caller, teamspace).await?;
    Ok(Json(ServiceList { services: services.into_iter().map(Service::from).collect() }))
}
