//! `/api/v1/audit`

use axum::{Json, extract::State};
use hub_policy::actions::ReadAudit;
use hub_store::audit::Recorded;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{error::Problem, extract::Asked, refusals::Permitted};
use crate::{Hub, login::Authenticated};

const PAGE_MAX: u32 = 500;

pub(super) fn routes() -> OpenApiRouter<Hub> {
    OpenApiRouter::new().routes(routes!(list))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ListAsked {
    /// At most 500; 100 where nothing is said.
    limit: Option<u32>,
    /// Only what was recorded before this number.
    before: Option<i64>,
}

#[derive(Serialize, ToSchema)]
struct AuditList {
    /// The newest first.
    entries: Vec<AuditEntry>,
    /// The `before` of the next page; null at the end.
    next_before: Option<i64>,
}

#[derive(Serialize, ToSchema)]
struct AuditEntry {
    /// Counts up from 1 without a gap.
    seq: i64,
    at: Timestamp,
    /// `user`, `hub`, `agent` or `operator`.
    actor_kind: String,
    actor: String,
    /// The roles the actor held at that time.
    roles: Vec<String>,
    action: String,
    subject: String,
    #[schema(value_type = Object)]
    detail: serde_json::Value,
    policy_version: Option<i64>,
    /// The policies that decided.
    policies: Vec<String>,
    /// SHA-256 over this entry and the hash before it, in hexadecimal.
    hash: String,
}

impl From<Recorded> for AuditEntry {
    fn from(row: Recorded) -> Self {
        Self {
            seq: row.seq,
            at: row.at,
            actor_kind: row.actor_kind,
            actor: row.actor,
            roles: row.roles,
            action: row.action,
            subject: row.subject,
            detail: serde_json::from_str(&row.detail).unwrap_or_default(),
            policy_version: row.policy_version,
            policies: row.policies,
            hash: row.hash.iter().map(|byte| format!("{byte:02x}")).collect(),
        }
    }
}

/// Lists the audit log, the newest first.
#[utoipa::path(
    get, path = "/api/v1/audit", tag = "audit", operation_id = "list_audit", params(ListAsked),
    responses((status = 200, body = AuditList), Permitted)
)]
async fn list(
    State(hub): State<Hub>,
    Authenticated(caller): Authenticated,
    Asked(asked): Asked<ListAsked>,
) -> Result<Json<AuditList>, Problem> {
    let facts = hub.facts(&caller).await?;
    hub.decide(&caller, ReadAudit, &facts).await?;
    let limit = i64::from(asked.limit.unwrap_or(100).clamp(1, PAGE_MAX));
    let entries: Vec<AuditEntry> = hub
        .store
        .scoped(caller.org)
        .audit(asked.before, limit)
        .await?
        .into_iter()
        .map(AuditEntry::from)
        .collect();
    let next_before = entries.last().map(|entry| entry.seq).filter(|seq| *seq > 1);
    Ok(Json(AuditList { entries, next_before }))
}
