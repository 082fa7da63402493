//! How often somebody who has not proven who they are may knock.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use tokio::time::Instant;

use super::{error::Problem, knocks::Knocks, visitor};
use crate::links;

/// The paths that answer without a credential, or exchange one; and the links, which ask for theirs only afterwards.
const OPEN_PATHS: [&str; 6] =
    ["/login", "/logout", "/oauth/", "/api/v1/setup", "/api/v1/sign-in", LINKS];
const LINKS: &str = "/fairlead.link.v1.";

/// Counts the requests of strangers by where they come from.
#[derive(Clone, Debug, Default)]
pub(super) struct Strangers {
    /// At the open paths: every request.
    knocks: Arc<Mutex<Knocks>>,
    /// Everywhere else: credentials that are nobody's, each of which costs a look into the database.
    guesses: Arc<Mutex<Knocks>>,
}

pub(super) async fn limit_strangers(
    State(strangers): State<Strangers>,
    request: Request,
    next: Next,
) -> Response {
    let address = visitor::address_of(request.extensions());
    let address = address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let path = request.uri().path();
    let is_link = path.starts_with(LINKS);
    if OPEN_PATHS.iter().any(|open| path.starts_with(open)) {
        let counted = locked(&strangers.knocks).count(address, Instant::now());
        return match counted {
            Ok(()) => next.run(request).await,
            Err(wait) if is_link => links::too_many_calls(wait),
            Err(wait) => too_many(wait),
        };
    }
    if !shows_a_credential(request.headers()) {
        return next.run(request).await;
    }
    // Counted before it is looked at, so that many at once do not slip through together.
    if let Err(wait) = locked(&strangers.guesses).count(address, Instant::now()) {
        return too_many(wait);
    }
    let response = next.run(request).await;
    if response.status() != StatusCode::UNAUTHORIZED {
        locked(&strangers.guesses).forgive(address);
    }
    response
}

fn shows_a_credential(headers: &HeaderMap) -> bool {
    headers.contains_key(header::AUTHORIZATION) || headers.contains_key(header::COOKIE)
}

fn too_many(wait: Duration) -> Response {
    Problem::too_many_requests(wait.as_secs() + 1).into_response()
}

fn locked(knocks: &Mutex<Knocks>) -> MutexGuard<'_, Knocks> {
    knocks.lock().unwrap_or_else(PoisonError::into_inner)
}
