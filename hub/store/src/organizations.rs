//! Organizations: the tenants.

use fairlead_model::OrgId;
use jiff::Timestamp;

use crate::{Scoped, StoreError, Unscoped};

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
