//! How long a request may take. One that takes longer has met a database that does not answer: nothing new is allowed
//! then, and whoever asked is told so before they give up by themselves.

use std::time::Duration;

use axum::{
    extract::Request,
    middleware::Next,
    response::{IntoResponse, Response},
};
use tokio::time::timeout;

use super::error::Problem;

/// Half of what a laptop waits for an answer.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Answers a request in time, in whatever way. What it has begun in the database is rolled back.
pub(super) async fn keep(request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    match timeout(TIMEOUT, next.run(request)).await {
        Ok(answer) => answer,
        Err(_) => {
            tracing::error!(path, "The database has not answered in time; the request was refused");
            Problem::unavailable("the hub's database does not answer")
                .hint(
                    "what runs goes on, and nothing new begins until it answers: try again in a moment, or tell who \
                     operates the hub",
                )
                .into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use axum::{Router, body::Body, http::StatusCode, middleware, routing::get};
    use tower::ServiceExt as _;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_request_that_meets_a_silent_database_is_told_what_to_do() {
        let router =
            Router::new().route("/silent", get(pending::<()>)).layer(middleware::from_fn(keep));
        let request = Request::get("/silent").body(Body::empty()).expect("valid");
        let answer = router.oneshot(request).await.expect("infallible");
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        let body = axum::body::to_bytes(answer.into_body(), 4096).await.expect("short");
        let body: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(body["error"]["message"], "the hub's database does not answer");
        let hint = body["error"]["hint"].as_str().expect("a hint");
        assert!(hint.starts_with("what runs goes on"), "{hint}");
    }
}
