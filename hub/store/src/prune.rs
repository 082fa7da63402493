//! Removing what has expired. Nothing here decides anything: every reader checks the expiry itself.

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;

use crate::{StoreError, Unscoped};

impl Unscoped<'_> {
    /// Deletes sign-in attempts, sessions, codes, tokens and links that no longer count.
    pub async fn prune_credentials(&self, now: Timestamp) -> Result<u64, StoreError> {
        let at = now.to_sqlx();
        let deletions = [
            sqlx::query!("delete from login_attempts where expires_at < $1", at),
            sqlx::query!("delete from web_sessions where expires_at < $1", at),
            sqlx::query!("delete from authorization_codes where expires_at < $1", at),
            sqlx::query!("delete from device_codes where expires_at < $1", at),
            sqlx::query!("delete from access_tokens where expires_at < $1", at),
            sqlx::query!("delete from refresh_tokens where expires_at < $1", at),
            sqlx::query!("delete from setup_links where expires_at < $1", at),
            // Later than the others: by then whatever lived by one has been ended, and whom it concerns was told.
            sqlx::query!(
                "delete from api_tokens where expires_at < $1::timestamptz - interval '1 day'",
                at
            ),
        ];
        let mut deleted = 0;
        for deletion in deletions {
            deleted += deletion.execute(self.pool).await?.rows_affected();
        }
        Ok(deleted)
    }
}
