//! Which hub this is.

use axum::Json;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::Hub;

pub(super) fn routes() -> OpenApiRouter<Hub> {
    OpenApiRouter::new().routes(routes!(show))
}

#[derive(Serialize, ToSchema)]
struct Version {
    version: &'static str,
    /// The versions of this API that the hub speaks.
    api: [&'static str; 1],
}

/// Shows the hub's version.
#[utoipa::path(
    get, path = "/api/v1/version", tag = "health", security(()), responses((status = 200, body = Version))
)]
async fn show() -> Json<Version> {
    Json(Version { version: env!("CARGO_PKG_VERSION"), api: ["v1"] })
}
