//! Links that come inside a WebSocket: for networks in which something opens TLS on the way and speaks no HTTP/2, or keeps
//! what is streamed to itself until it ends.
//!
//! Inside is HTTP/2 with the same calls as on a connection of their own, and who has not proven who they are is bounded as
//! there. Where they come from is what was found out about the WebSocket: what a header inside says of it is not read.

use std::{future::pending, io, sync::Arc, time::Duration};

use anyhow::anyhow;
use axum::{
    Extension, Router,
    body::Body,
    extract::{Request, State},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
    routing::get,
};
use fairlead_model::timers::PREFACE;
use fairlead_tunnel::{
    connection::Connection,
    websocket::{LINK_PATH, WebSocket, agree},
};
use hyper::{server::conn::http2, upgrade::OnUpgrade};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use tokio::{sync::Notify, time::timeout};

use super::{carrier::no_websocket, error::Problem, visitor::Visitor};
use crate::{
    Hub,
    links::{Doorway, Stranger, is_call},
};

/// A laptop and an agent make one call each.
const CALLS_MAX: u32 = 16;
/// When the hub stops, a link that does not end by itself is cut after this time.
const GRACE: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
struct Inside {
    hub: Hub,
    links: Router,
    /// Of WebSockets in which nobody has called yet.
    doorway: Doorway,
}

/// `links` is what is served inside.
pub(super) fn routes(hub: &Hub, links: Router) -> Router {
    let inside = Inside { hub: hub.clone(), links, doorway: Doorway::new() };
    Router::new().route(LINK_PATH, get(open)).with_state(inside)
}

async fn open(
    State(Inside { hub, links, doorway }): State<Inside>,
    visitor: Option<Extension<Visitor>>,
    mut request: Request,
) -> Response {
    let Some(upgrade) = request.extensions_mut().remove::<OnUpgrade>() else {
        return no_websocket("links");
    };
    let Some(agreed) = agree(&request) else { return no_websocket("links") };
    let Ok(stranger) = doorway.enter(request.extensions()) else {
        return Problem::unavailable("too many links are being opened").into_response();
    };
    let links = match visitor {
        Some(visitor) => links.layer(visitor),
        None => links,
    };
    hub.tasks.clone().spawn(async move {
        if let Err(error) = serve(&hub, upgrade, links, stranger).await {
            tracing::debug!(%error, "A WebSocket for links has ended");
        }
    });
    agreed.map(|()| Body::empty())
}

async fn serve(
    hub: &Hub,
    upgrade: OnUpgrade,
    links: Router,
    stranger: Stranger,
) -> anyhow::Result<()> {
    let upgraded = timeout(PREFACE, upgrade).await??;
    let socket = WebSocket::served(Box::new(TokioIo::new(upgraded)) as Connection).await;
    let called = Arc::new(Notify::new());
    let links = links.layer(middleware::from_fn_with_state(Arc::clone(&called), note));
    let mut http = http2::Builder::new(TokioExecutor::new());
    http.max_concurrent_streams(CALLS_MAX);
    let connection = http.serve_connection(TokioIo::new(socket), TowerToHyperService::new(links));
    tokio::pin!(connection);
    tokio::select! {
        ended = &mut connection => return Ok(ended?),
        () = hub.stopping.cancelled() => {}
        () = nobody_calls(&called, stranger) => return Err(anyhow!("nobody opened a link")),
    }
    connection.as_mut().graceful_shutdown();
    let ended = timeout(GRACE, connection).await;
    Ok(ended.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??)
}

async fn note(State(called): State<Arc<Notify>>, request: Request, next: Next) -> Response {
    if is_call(request.headers()) {
        called.notify_one();
    }
    next.run(request).await
}

/// Ends when the first call has not come in time; when it has, the place is free.
async fn nobody_calls(called: &Notify, stranger: Stranger) {
    if timeout(PREFACE, called.notified()).await.is_ok() {
        stranger.leave();
        pending::<()>().await;
    }
}
