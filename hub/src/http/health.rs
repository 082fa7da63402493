//! Whether the process lives, and whether it can be sent work.

use axum::{extract::State, http::StatusCode};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::error::Problem;
use crate::Hub;

pub(super) fn routes() -> OpenApiRouter<Hub> {
    OpenApiRouter::new().routes(routes!(alive)).routes(routes!(ready))
}

/// Says that the process lives.
#[utoipa::path(get, path = "/healthz", tag = "health", security(()), responses((status = 204)))]
async fn alive() -> StatusCode {
    StatusCode::NO_CONTENT
}

/// Says whether the hub can be sent work: its database answers, and it is not being stopped.
#[utoipa::path(
    get, path = "/readyz", tag = "health", security(()),
    responses((status = 204), (status = 503, body = super::error::ErrorBody))
)]
async fn ready(State(hub): State<Hub>) -> Result<StatusCode, Problem> {
    if hub.stopping.is_cancelled() {
        return Err(Problem::unavailable("the hub is being stopped"));
    }
    hub.store.is_reachable().await?;
    Ok(StatusCode::NO_CONTENT)
}
