//! Browsers that are signed in. The cookie is stored as its hash.

use fairlead_model::{
    OrgId, UserId,
    timers::{WEB_SESSION_IDLE, WEB_SESSION_LIFE},
};
use jiff::{SignedDuration, Timestamp};
use jiff_sqlx::ToSqlx;

use crate::{StoreError, Unscoped};

/// A session is not written again for each request, only when this much time has passed.
const SEEN_EVERY: SignedDuration = SignedDuration::from_mins(1);

/// Whose cookie or token it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bearer {
    pub org: OrgId,
    pub user: UserId,
}

impl Unscoped<'_> {
    pub async fn begin_web_session(
        &self,
        token_hash: &[u8; 32],
        bearer: Bearer,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        sqlx::query!(
            "insert into web_sessions (token_hash, org_id, user_id, created_at, last_seen_at,
                                       expires_at)
             values ($1, $2, $3, $4, $4, $5)",
            token_hash,
            bearer.org.as_uuid(),
            bearer.user.as_uuid(),
            now.to_sqlx(),
            (now + WEB_SESSION_LIFE).to_sqlx()
        )
        .execute(self.pool)
        .await?;
        Ok(())
    }

    /// Finds whose cookie it is, unless it was idle for too long or has come of age.
    pub async fn web_session(
        &self,
        token_hash: &[u8; 32],
        now: Timestamp,
    ) -> Result<Option<Bearer>, StoreError> {
        let Some(row) = sqlx::query!(
            "select org_id, user_id, last_seen_at from web_sessions
             where token_hash = $1 and expires_at > $2 and last_seen_at > $3",
            token_hash,
            now.to_sqlx(),
            (now - WEB_SESSION_IDLE).to_sqlx()
        )
        .fetch_optional(self.pool)
        .await?
        else {
            return Ok(None);
        };
        if row.last_seen_at.to_jiff() + SEEN_EVERY < now {
            self.saw_web_session(token_hash, now).await?;
        }
        Ok(Some(Bearer { org: row.org_id.into(), user: row.user_id.into() }))
    }

    async fn saw_web_session(
        &self,
        token_hash: &[u8; 32],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        sqlx::query!(
            "update web_sessions set last_seen_at = $2 where token_hash = $1",
            token_hash,
            now.to_sqlx()
        )
        .execute(self.pool)
        .await?;
        Ok(())
    }

    pub async fn end_web_session(&self, token_hash: &[u8; 32]) -> Result<(), StoreError> {
        sqlx::query!("delete from web_sessions where token_hash = $1", token_hash)
            .execute(self.pool)
            .await?;
        Ok(())
    }
}
