//! The one place where what went wrong becomes an HTTP status.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use hub_policy::Denied;
use hub_store::StoreError;
use serde::Serialize;
use utoipa::ToSchema;

use crate::actions::ActionError;

/// What every refused or failed request answers.
#[derive(Debug, Serialize, ToSchema)]
pub struct ErrorBody {
    error: ErrorDetail,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct ErrorDetail {
    /// For programs: `invalid`, `unauthenticated`, `forbidden`, `not_found`, `conflict`, `too_many_requests`, …
    code: &'static str,
    /// For people: what happened.
    message: String,
    /// For people: what to try.
    hint: Option<String>,
    /// The policies that forbid it; none where no policy allows it.
    policies: Vec<String>,
}

/// A request that was not done, and why.
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    detail: ErrorDetail,
    retry_after_s: Option<u64>,
}

impl Problem {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        let detail =
            ErrorDetail { code, message: message.into(), hint: None, policies: Vec::new() };
        Self { status, detail, retry_after_s: None }
    }

    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid", message)
    }

    #[must_use]
    pub fn unauthenticated() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthenticated", "you are not signed in")
            .hint("sign in: fairlead login")
    }

    /// A write with a cookie that does not come from a page of this hub.
    #[must_use]
    pub fn foreign_origin() -> Self {
        let message = "this request does not come from a page of this hub";
        Self::new(StatusCode::FORBIDDEN, "foreign_origin", message)
    }

    #[must_use]
    pub fn not_found(noun: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", format!("there is no such {noun}"))
    }

    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", message)
    }

    #[must_use]
    pub fn too_many_requests(retry_after_s: u64) -> Self {
        let problem =
            Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", "too many requests");
        Self { retry_after_s: Some(retry_after_s), ..problem }
            .hint(format!("try again in {retry_after_s} s"))
    }

    pub fn unavailable(message: impl Into<String>) -> Self {
        let problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message);
        Self { retry_after_s: Some(1), ..problem }
    }

    /// Says nothing of the cause, which is in the log.
    #[must_use]
    pub fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "the hub could not do this; its log says why",
        )
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.detail.hint = Some(hint.into());
        self
    }

    #[must_use]
    pub const fn status(&self) -> StatusCode {
        self.status
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(ErrorBody { error: self.detail })).into_response();
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl From<Denied> for Problem {
    fn from(denied: Denied) -> Self {
        if let Some(fault) = &denied.fault {
            tracing::error!(fault, "A policy could not be evaluated; the request was refused");
        }
        // What a caller may not see does not exist for them.
        if !denied.visible {
            return Self::new(StatusCode::NOT_FOUND, "not_found", "there is no such thing");
        }
        let mut problem = Self::new(StatusCode::FORBIDDEN, "forbidden", denied.reason);
        problem.detail.hint = denied.hint;
        problem.detail.policies = denied.policies;
        problem
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound { noun } => Self::not_found(noun),
            StoreError::Conflict { .. } => Self::conflict("it exists already"),
            StoreError::Database(source) => {
                tracing::error!(error = %source, "The database did not answer as expected");
                Self::unavailable("the hub cannot reach its database")
                    .hint("open connections go on; try again in a moment")
            }
            StoreError::Damaged { .. } | StoreError::Schema(_) | StoreError::Migrate(_) => {
                tracing::error!(%error, "A stored row could not be read");
                Self::internal()
            }
        }
    }
}

impl From<ActionError> for Problem {
    fn from(error: ActionError) -> Self {
        match error {
            ActionError::Denied(denied) => denied.into(),
            ActionError::Store(error) => error.into(),
            ActionError::Invalid { message, hint } => {
                let mut problem = Self::invalid(message);
                problem.detail.hint = hint;
                problem
            }
            ActionError::NotFound { message, hint } => {
                let mut problem = Self::new(StatusCode::NOT_FOUND, "not_found", message);
                problem.detail.hint = hint;
                problem
            }
            ActionError::Conflict { message, hint } => {
                let mut problem = Self::conflict(message);
                problem.detail.hint = hint;
                problem
            }
            ActionError::Internal(message) => {
                tracing::error!(message, "An action failed");
                Self::internal()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denied(visible: bool) -> Denied {
        Denied {
            reason: "you may not intercept `shop/cart`".to_owned(),
            hint: None,
            policies: vec!["guard".to_owned()],
            visible,
            policy_version: 1,
            fault: None,
        }
    }

    #[test]
    fn what_may_not_be_seen_is_not_there() {
        let problem = Problem::from(denied(false));
        assert_eq!(problem.status(), StatusCode::NOT_FOUND);
        assert!(!problem.detail.message.contains("cart"), "{}", problem.detail.message);
        assert!(problem.detail.policies.is_empty());
    }

    #[test]
    fn what_may_be_seen_is_refused_with_the_policy() {
        let problem = Problem::from(denied(true));
        assert_eq!(problem.status(), StatusCode::FORBIDDEN);
        assert_eq!(problem.detail.policies, ["guard"]);
    }
}
