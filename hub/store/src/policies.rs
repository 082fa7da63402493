//! The organization's own policies, one version after the other.

use fairlead_model::OrgId;
use hub_policy::{Permit, Policies, PolicyText, actions::PublishPolicies};
use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use serde_json::json;
use sqlx::{PgConnection, types::Json};
use uuid::Uuid;

use crate::{
    Scoped, Store, StoreError, Unscoped,
    audit::{self, Entry},
    notify::{self, Noun},
};

impl Scoped<'_> {
    /// Returns the version in force; 0 where an organization has only the built-in policies.
    pub async fn policy_version(&self) -> Result<u64, StoreError> {
        let version = sqlx::query_scalar!(
            "select coalesce(max(version), 0) as \"version!\" from policy_sets where org_id = $1",
            self.org.as_uuid()
        )
        .fetch_one(self.pool)
        .await?;
        u64::try_from(version).map_err(|error| StoreError::damaged("policy version", error))
    }

    /// Returns the organization's own policies in force, with their version.
    pub async fn policy_texts(&self) -> Result<(u64, Vec<PolicyText>), StoreError> {
        let row = sqlx::query!(
            "select version, texts as \"texts: Json<Vec<PolicyText>>\" from policy_sets
             where org_id = $1 order by version desc limit 1",
            self.org.as_uuid()
        )
        .fetch_optional(self.pool)
        .await?;
        let Some(row) = row else { return Ok((0, Vec::new())) };
        let version = u64::try_from(row.version)
            .map_err(|error| StoreError::damaged("policy version", error))?;
        Ok((version, row.texts.0))
    }

    /// Returns the policies in force, ready to be asked. A stored set that is no longer valid is an error, never a
    /// smaller set: a `forbid` that fell out would be a yes.
    pub async fn policies(&self) -> Result<Policies, StoreError> {
        let (version, own) = self.policy_texts().await?;
        Policies::new(version, &own).map_err(|error| StoreError::damaged("policy set", error))
    }
}

impl Store {
    /// Puts a new version in force and returns its number. The texts must have been validated.
    pub async fn publish_policies(
        &self,
        permit: &Permit<PublishPolicies>,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let org = permit.org();
        let mut tx = self.pool.begin().await?;
        let by = permit.caller().actor.user().as_uuid();
        let version = insert(&mut tx, org, &permit.action().texts, Some(by), now).await?;
        let ids: Vec<_> = permit.action().texts.iter().map(|text| &text.id).collect();
        let entry =
            Entry::by(permit, "policies.published", version).with(json!({ "policies": ids }));
        audit::record(&mut tx, entry, now).await?;
        notify::tell(&mut tx, org, Noun::Policies, org.as_uuid()).await?;
        tx.commit().await?;
        u64::try_from(version).map_err(|error| StoreError::damaged("policy version", error))
    }
}

impl Unscoped<'_> {
    /// Puts the built-in policies alone in force, on the word of the operator; returns the new version.
    pub async fn reset_policies(&self, org: OrgId, now: Timestamp) -> Result<u64, StoreError> {
        let mut tx = self.pool.begin().await?;
        let version = insert(&mut tx, org, &[], None, now).await?;
        audit::record(&mut tx, Entry::by_operator(org, "policies.reset", version), now).await?;
        notify::tell(&mut tx, org, Noun::Policies, org.as_uuid()).await?;
        tx.commit().await?;
        u64::try_from(version).map_err(|error| StoreError::damaged("policy version", error))
    }
}

async fn insert(
    connection: &mut PgConnection,
    org: OrgId,
    texts: &[PolicyText],
    by: Option<Uuid>,
    now: Timestamp,
) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar!(
        "insert into policy_sets (org_id, version, texts, published_at, published_by)
         select $1, coalesce(max(version), 0) + 1, $2, $3, $4 from policy_sets where org_id = $1
         returning version",
        org.as_uuid(),
        Json(texts) as _,
        now.to_sqlx() as _,
        by,
    )
    .fetch_one(connection)
    .await?)
}
