//! The keys of an organization: its authority (signs device certificates) and its grant key. Private halves are sealed.

use fairlead_model::OrgId;
use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use sqlx::PgConnection;

use crate::{StoreError, Unscoped};

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyPurpose {
    Authority,
    Grants,
}

impl KeyPurpose {
    /// Returns the name under which the key is stored, and to which its seal is bound.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Authority => "authority",
            Self::Grants => "grants",
        }
    }
}

/// A key as it lies in the database.
#[derive(Clone, Debug)]
pub struct SealedKey {
    pub purpose: KeyPurpose,
    pub public_pem: String,
    pub sealed_private: Vec<u8>,
}

impl Unscoped<'_> {
    /// Returns one key of an organization.
    pub async fn organization_key(
        &self,
        org: OrgId,
        purpose: KeyPurpose,
    ) -> Result<SealedKey, StoreError> {
        let row = sqlx::query!(
            "select public_pem, sealed_private from organization_keys
             where org_id = $1 and purpose = $2",
            org.as_uuid(),
            purpose.as_str()
        )
        .fetch_optional(self.pool)
        .await?
        .ok_or(StoreError::NotFound { noun: "organization" })?;
        Ok(SealedKey { purpose, public_pem: row.public_pem, sealed_private: row.sealed_private })
    }

    /// Returns some sealed value, to try a master key on, or nothing in an empty database.
    pub async fn any_sealed_key(&self) -> Result<Option<(OrgId, SealedKey)>, StoreError> {
        let row = sqlx::query!(
            "select org_id, public_pem, sealed_private from organization_keys
             where purpose = 'authority' limit 1"
        )
        .fetch_optional(self.pool)
        .await?;
        Ok(row.map(|row| {
            let key = SealedKey {
                purpose: KeyPurpose::Authority,
                public_pem: row.public_pem,
                sealed_private: row.sealed_private,
            };
            (row.org_id.into(), key)
        }))
    }
}

pub(crate) async fn insert(
    connection: &mut PgConnection,
    org: OrgId,
    key: &SealedKey,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query!(
        "insert into organization_keys (org_id, purpose, public_pem, sealed_private, created_at)
         values ($1, $2, $3, $4, $5)",
        org.as_uuid(),
        key.purpose.as_str(),
        key.public_pem,
        key.sealed_private,
        now.to_sqlx()
    )
    .execute(connection)
    .await?;
    Ok(())
}
