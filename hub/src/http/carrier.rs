//! Halves of carriers that come over the hub's own port, as WebSockets: for networks through which nothing but HTTPS gets.
//!
//! Nobody has a credential here. What entitles to a carrier is the ticket inside, which the relay redeems as it does on its
//! own port; until it is shown, the relay's bounds on strangers hold.

use axum::{
    Extension, Router,
    body::Body,
    extract::{Request, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use fairlead_tunnel::{
    abortable::AbortSwitch,
    connection::Connection,
    websocket::{CARRIER_PATH, agree},
};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::error::Problem;
use crate::Hub;

pub(super) fn routes(hub: &Hub) -> Router {
    Router::new().route(CARRIER_PATH, get(carry)).with_state(hub.clone())
}

async fn carry(
    State(hub): State<Hub>,
    abort: Option<Extension<AbortSwitch>>,
    mut request: Request,
) -> Response {
    let Some(upgrade) = request.extensions_mut().remove::<OnUpgrade>() else {
        return no_websocket("carriers");
    };
    let Some(agreed) = agree(&request) else { return no_websocket("carriers") };
    let Some(stranger) = hub.relay.let_in() else {
        return Problem::unavailable("too many carriers are being made").into_response();
    };
    let upgraded = async {
        let upgraded = upgrade.await.map_err(std::io::Error::other)?;
        Ok(Box::new(TokioIo::new(upgraded)) as Connection)
    };
    let abort = abort.map(|Extension(abort)| abort).unwrap_or_default();
    hub.tasks.spawn(stranger.comes_in(upgraded, abort));
    agreed.map(|()| Body::empty())
}

/// Says what comes in here.
pub(super) fn no_websocket(what: &str) -> Response {
    let said = [(header::UPGRADE, "websocket")];
    let text = format!("this is where {what} come in, as WebSockets\n");
    (StatusCode::UPGRADE_REQUIRED, said, text).into_response()
}
