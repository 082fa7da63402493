//! `/api/v1/events`: hints that something changed, so that a page knows when to ask again.

mod listener;
mod seats;

use std::{convert::Infallible, time::Duration};

use axum::{
    Extension,
    extract::State,
    http::request::Parts,
    response::sse::{Event, KeepAlive, Sse},
};
use hub_store::notify::Noun;
use serde::Serialize;
use tokio_stream::{Stream, StreamExt};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use self::{listener::Listener, seats::Seats};
use super::{
    error::{ErrorBody, Problem},
    refusals::Permitted,
};
use crate::Hub;

const KEEP_ALIVE: Duration = Duration::from_secs(15);

pub(super) fn routes() -> OpenApiRouter<Hub> {
    OpenApiRouter::new().routes(routes!(watch)).layer(Extension(Seats::default()))
}

/// One hint. It names no row and never carries the change itself: whoever hears it reads again, as far as they may.
#[derive(Serialize, ToSchema)]
struct ChangeHint {
    /// `sessions`, `services`, `teamspaces`, `members` or `policies`.
    noun: &'static str,
}

/// Streams hints about what changes in the caller's organization. It ends when the credential does.
#[utoipa::path(
    get, path = "/api/v1/events", tag = "events", operation_id = "watch_events",
    responses(
        (status = 200, content_type = "text/event-stream", body = ChangeHint), Permitted, (status = 429, body = ErrorBody),
    )
)]
async fn watch(
    State(hub): State<Hub>,
    Extension(seats): Extension<Seats>,
    parts: Parts,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let listener = Listener::begin(hub, parts, &seats).await?;
    let rounds = futures_util::stream::unfold(listener, async |mut listener| {
        let nouns = listener.next().await?;
        Some((nouns, listener))
    });
    let events = futures_util::StreamExt::flat_map(rounds, futures_util::stream::iter).map(event);
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

fn event(noun: Noun) -> Result<Event, Infallible> {
    let hint = ChangeHint { noun: noun.as_str() };
    let data = serde_json::to_string(&hint).expect("a string");
    Ok(Event::default().event("change").data(data))
}
