//! `/api/v1/policies`

use axum::{Json, extract::State};
use hub_policy::PolicyText;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    error::{ErrorBody, Problem},
    extract::Body,
    refusals::Permitted,
};
use crate::{Hub, actions::policies, login::Authenticated};

pub(super) fn routes() -> OpenApiRouter<Hub> {
    OpenApiRouter::new().routes(routes!(show, publish))
}

/// The organization's own policies; the built-in roles have theirs beside them.
#[derive(Serialize, ToSchema)]
struct PolicySet {
    /// 0 as long as nothing was published.
    version: u64,
    policies: Vec<Policy>,
}

#[derive(Serialize, Deserialize, ToSchema)]
struct Policy {
    /// Shown to whoever is refused by it.
    id: String,
    /// One sentence for people.
    #[serde(default)]
    label: String,
    /// One Cedar policy.
    text: String,
}

#[derive(Deserialize, ToSchema)]
struct NewPolicies {
    policies: Vec<Policy>,
}

#[derive(Serialize, ToSchema)]
struct PublishedPolicies {
    version: u64,
}

/// Shows the organization's own policies.
#[utoipa::path(
    get, path = "/api/v1/policies", tag = "policies", operation_id = "show_policies",
    responses((status = 200, body = PolicySet), Permitted)
)]
async fn show(
    State(hub): State<Hub>,
    Authenticated(caller): Authenticated,
) -> Result<Json<PolicySet>, Problem> {
    let (version, texts) = policies::list(&hub, &caller).await?;
    let policy = |PolicyText { id, label, text }| Policy { id, label, text };
    Ok(Json(PolicySet { version, policies: texts.into_iter().map(policy).collect() }))
}

/// Puts a new version of the organization's own policies in force, in place of the whole one before.
///
/// It is validated strictly first. Live sessions are decided again at once; what is no longer allowed ends.
#[utoipa::path(
    put, path = "/api/v1/policies", tag = "policies", operation_id = "publish_policies",
    request_body = NewPolicies,
    responses(
        (status = 200, body = PublishedPolicies), Permitted, (status = 400, body = ErrorBody), (status = 409, body = ErrorBody),
    )
)]
async fn publish(
    State(hub): State<Hub>,
    Authenticated(caller): Authenticated,
    Body(new): Body<NewPolicies>,
) -> Result<Json<PublishedPolicies>, Problem> {
    let text = |Policy { id, label, text }| PolicyText { id, label, text };
    let texts = new.policies.into_iter().map(text).collect();
    Ok(Json(PublishedPolicies { version: policies::publish(&hub, &caller, texts).await? }))
}
