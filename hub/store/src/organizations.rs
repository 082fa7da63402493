//! Organizations: the tenants.

use fairlead_model::OrgId;
use hub_policy::{Permit, actions::ManageOrganization};
use jiff::Timestamp;
use serde_json::json;

use crate::{
    Scoped, Store, StoreError, Unscoped,
    audit::{self, Entry},
};

/// A tenant, as its members see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Organization {
    pub id: OrgId,
    pub slug: String,
    pub name: String,
    pub created_at: Timestamp,
}

impl Scoped<'_> {
    pub async fn organization(&self) -> Result<Organization, StoreError> {
        sqlx::query_as!(
            Organization,
            "select id, slug, name, created_at from organizations where id = $1",
            self.org.as_uuid()
        )
        .fetch_optional(self.pool)
        .await?
        .ok_or(StoreError::NotFound { noun: "organization" })
    }
}

impl Unscoped<'_> {
    /// Lists every organization of this hub, oldest first.
    pub async fn organizations(&self) -> Result<Vec<Organization>, StoreError> {
        Ok(sqlx::query_as!(
            Organization,
            "select id, slug, name, created_at from organizations order by created_at, id"
        )
        .fetch_all(self.pool)
        .await?)
    }
}

impl Store {
    pub async fn rename_organization(
        &self,
        permit: &Permit<ManageOrganization>,
        name: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let org = permit.org();
        let mut tx = self.pool.begin().await?;
        let before = sqlx::query_scalar!(
            "select name from organizations where id = $1 for no key update",
            org.as_uuid()
        )
        .fetch_optional(&mut *tx)
        .await?
        .ok_or(StoreError::NotFound { noun: "organization" })?;
        if before == name {
            return Ok(());
        }
        sqlx::query!("update organizations set name = $2 where id = $1", org.as_uuid(), name)
            .execute(&mut *tx)
            .await?;
        let entry = Entry::by(permit, "organization.renamed", org)
            .with(json!({ "before": before, "after": name }));
        audit::record(&mut tx, entry, now).await?;
        Ok(tx.commit().await?)
    }
}
