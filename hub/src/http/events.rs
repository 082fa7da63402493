//! `/api/v1/events`: hints that something changed, so that a page knows when to ask again.

use std::{convert::Infallible, time::Duration};

use axum::{
    extract::State,
    response::sse::{Event, KeepAlive, Sse},
};
use fairlead_model::OrgId;
use hub_policy::{actions::ListMembers, decide};
use hub_store::notify::{Change, Heard, Noun};
use serde::Serialize;
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio_stream::Stream;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::error::{ErrorBody, Problem};
use crate::{Hub, login::Authenticated};

const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// After this long the stream ends and the page opens another: its credential is looked at again.
const LIFE: Duration = Duration::from_secs(300);

pub(super) fn routes() -> OpenApiRouter<Hub> {
    OpenApiRouter::new().routes(routes!(watch))
}

/// One hint. It never carries the change itself: whoever hears it reads again, as far as they may.
#[derive(Serialize, ToSchema)]
struct ChangeHint {
    /// `sessions`, `services`, `teamspaces`, `members` or `policies`.
    noun: &'static str,
    /// What changed; null when anything of this noun may have.
    id: Option<Uuid>,
}

/// Streams a hint for each change in the caller's organization.
#[utoipa::path(
    get, path = "/api/v1/events", tag = "events", operation_id = "watch_events",
    responses(
        (status = 200, content_type = "text/event-stream", body = ChangeHint),
        (status = 401, body = ErrorBody), (status = 403, body = ErrorBody),
    )
)]
async fn watch(
    State(hub): State<Hub>,
    Authenticated(caller): Authenticated,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let facts = hub.facts(&caller).await?;
    decide(&caller, ListMembers, &facts)?;
    let hints = hints(caller.org, hub.changes.watch());
    let stopping = hub.stopping.clone();
    let ends = async move {
        tokio::select! {
            () = stopping.cancelled() => {}
            () = tokio::time::sleep(LIFE) => {}
        }
    };
    let stream = futures_util::StreamExt::take_until(hints, ends);
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

fn hints(
    org: OrgId,
    watcher: Receiver<Heard>,
) -> impl Stream<Item = Result<Event, Infallible>> + Send {
    let stream = futures_util::stream::unfold(watcher, move |mut watcher| async move {
        loop {
            let hints = match watcher.recv().await {
                Ok(Heard::Change(Change { org: of, noun, id })) if of == org => {
                    vec![ChangeHint { noun: noun.as_str(), id: Some(id) }]
                }
                Ok(Heard::Change(_)) => continue,
                // Something was missed: everything may have changed.
                Ok(Heard::Gap) | Err(RecvError::Lagged(_)) => {
                    Noun::ALL.map(|noun| ChangeHint { noun: noun.as_str(), id: None }).into()
                }
                Err(RecvError::Closed) => return None,
            };
            let events: Vec<_> = hints.iter().map(event).collect();
            return Some((futures_util::stream::iter(events), watcher));
        }
    });
    futures_util::StreamExt::flatten(stream)
}

fn event(hint: &ChangeHint) -> Result<Event, Infallible> {
    let data = serde_json::to_string(hint).expect("two strings");
    Ok(Event::default().event("change").data(data))
}
