//! What a connection stands on: how the owner takes it away from one person, and gives it back to everybody.

use std::time::Instant;

use reqwest::Method;
use serde_json::{Value, json};

use super::{admin::Admin, staff::Ready};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    User,
    Role,
    Policy,
    Device,
    Session,
}

impl Standing {
    pub(super) const ALL: [Self; 5] =
        [Self::User, Self::Role, Self::Policy, Self::Device, Self::Session];

    pub(super) const fn what(self) -> &'static str {
        match self {
            Self::User => "user removed",
            Self::Role => "role taken",
            Self::Policy => "policy forbids",
            Self::Device => "device removed",
            Self::Session => "session ended",
        }
    }

    /// Says whether whoever lost it has to sign in again.
    pub(super) const fn is_sign_in(self) -> bool {
        matches!(self, Self::User | Self::Device)
    }

    /// Takes it away and returns when that was asked for. What is forbidden stays forbidden for those before.
    pub(super) fn is_taken_from(
        self,
        ready: &Ready,
        admin: &Admin,
        forbidden: &mut Vec<Value>,
    ) -> anyhow::Result<Instant> {
        let Ready { user, device, session, .. } = ready;
        let (method, path, body) = match self {
            Self::User => (Method::DELETE, format!("/api/v1/members/{user}"), None),
            Self::Role => {
                (Method::PUT, format!("/api/v1/members/{user}/roles"), Some(json!({"roles": []})))
            }
            Self::Policy => {
                forbidden.push(forbids(user));
                (Method::PUT, POLICIES.to_owned(), Some(json!({"policies": forbidden})))
            }
            Self::Device => (Method::DELETE, format!("/api/v1/devices/{device}"), None),
            Self::Session => (Method::DELETE, format!("/api/v1/sessions/{session}"), None),
        };
        Ok(admin.asks(method, &path, body.as_ref())?.0)
    }

    pub(super) fn is_given_back(self, staff: &[Ready], admin: &Admin) -> anyhow::Result<()> {
        match self {
            Self::User => staff.iter().try_for_each(|Ready { user, .. }| {
                let restore = format!("/api/v1/members/{user}/restore");
                admin.asks(Method::POST, &restore, None).map(drop)
            }),
            Self::Role => staff.iter().try_for_each(|ready| becomes_developer(&ready.user, admin)),
            Self::Policy => {
                admin.asks(Method::PUT, POLICIES, Some(&json!({"policies": []}))).map(drop)
            }
            Self::Device | Self::Session => Ok(()),
        }
    }
}

const POLICIES: &str = "/api/v1/policies";

fn forbids(user: &str) -> Value {
    let text =
        format!(r#"forbid(principal == User::"{user}", action == Action::"consume", resource);"#);
    json!({"id": format!("not-{user}"), "label": "", "text": text})
}

pub(super) fn becomes_developer(user: &str, admin: &Admin) -> anyhow::Result<()> {
    let roles = json!({"roles": ["developer"]});
    admin.asks(Method::PUT, &format!("/api/v1/members/{user}/roles"), Some(&roles)).map(drop)
}
