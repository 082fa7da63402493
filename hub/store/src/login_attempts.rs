//! Browsers on their way to an issuer and back.

use fairlead_model::OrgId;
use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use uuid::Uuid;

use crate::{StoreError, Unscoped};

/// What the hub must remember between sending a browser to an issuer and seeing it again.
#[derive(Clone, Debug)]
pub struct LoginAttempt {
    pub org_id: OrgId,
    pub connection_id: Uuid,
    /// Hash of the cookie that the returning browser must bring.
    pub browser_hash: Vec<u8>,
    pub nonce: String,
    /// Base64 of the verifier as it was sealed.
    pub sealed_pkce_verifier: String,
    pub return_to: String,
    pub expires_at: Timestamp,
}

impl Unscoped<'_> {
    pub async fn begin_login(
        &self,
        state_hash: &[u8; 32],
        attempt: &LoginAttempt,
    ) -> Result<(), StoreError> {
        sqlx::query!(
            "insert into login_attempts (state_hash, org_id, connection_id, browser_hash, nonce,
                                         pkce_verifier, return_to, expires_at)
             values ($1, $2, $3, $4, $5, $6, $7, $8)",
            state_hash,
            attempt.org_id.as_uuid(),
            attempt.connection_id,
            attempt.browser_hash,
            attempt.nonce,
            attempt.sealed_pkce_verifier,
            attempt.return_to,
            attempt.expires_at.to_sqlx()
        )
        .execute(self.pool)
        .await?;
        Ok(())
    }

    /// Takes an attempt out, so that its `state` counts once.
    pub async fn take_login(
        &self,
        state_hash: &[u8; 32],
        now: Timestamp,
    ) -> Result<Option<LoginAttempt>, StoreError> {
        let attempt = sqlx::query_as!(
            LoginAttempt,
            "delete from login_attempts where state_hash = $1
             returning org_id, connection_id, browser_hash, nonce,
                       pkce_verifier as sealed_pkce_verifier, return_to, expires_at",
            state_hash
        )
        .fetch_optional(self.pool)
        .await?;
        Ok(attempt.filter(|attempt| attempt.expires_at > now))
    }
}
