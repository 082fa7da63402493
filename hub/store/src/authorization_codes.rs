//! Authorization codes of our command line, stored as hashes. Each begins one family of tokens (`token_families.rs`).

use fairlead_model::{OrgId, UserId};
use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{Bearer, StoreError, Unscoped};

/// An authorization code as it was given out.
#[derive(Clone, Debug)]
pub struct AuthorizationCode {
    pub org_id: OrgId,
    pub user_id: UserId,
    pub redirect_uri: String,
    pub code_challenge: String,
    pub key_jkt: String,
    pub expires_at: Timestamp,
    /// The family that it began: it has been used.
    pub family_id: Option<Uuid>,
}

impl Unscoped<'_> {
    pub async fn keep_code(
        &self,
        code_hash: &[u8; 32],
        code: &AuthorizationCode,
    ) -> Result<(), StoreError> {
        sqlx::query!(
            "insert into authorization_codes (code_hash, org_id, user_id, redirect_uri,
                                              code_challenge, key_jkt, expires_at)
             values ($1, $2, $3, $4, $5, $6, $7)",
            code_hash,
            code.org_id.as_uuid(),
            code.user_id.as_uuid(),
            code.redirect_uri,
            code.code_challenge,
            code.key_jkt,
            code.expires_at.to_sqlx()
        )
        .execute(self.pool)
        .await?;
        Ok(())
    }

    pub async fn code(
        &self,
        code_hash: &[u8; 32],
    ) -> Result<Option<AuthorizationCode>, StoreError> {
        Ok(sqlx::query_as!(
            AuthorizationCode,
            "select org_id, user_id, redirect_uri, code_challenge, key_jkt, expires_at, family_id
             from authorization_codes where code_hash = $1",
            code_hash
        )
        .fetch_optional(self.pool)
        .await?)
    }
}

/// Forgets the codes with which somebody could begin another family. Comes before [`crate::token_families::end_families`], which then sees every
/// family that was begun.
pub(crate) async fn forget_codes(
    connection: &mut PgConnection,
    bearer: Bearer,
) -> Result<(), StoreError> {
    sqlx::query!(
        "delete from authorization_codes where org_id = $1 and user_id = $2",
        bearer.org.as_uuid(),
        bearer.user.as_uuid()
    )
    .execute(connection)
    .await?;
    Ok(())
}
