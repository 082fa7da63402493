//! Refresh and access tokens of our command line, stored as hashes.
//!
//! Refresh tokens follow each other in a family (`token_families.rs`); when one is used after its successor was, somebody
//! has copied it, nobody can tell who is who, and the whole family ends.

use fairlead_model::{
    OrgId,
    timers::{ACCESS_TOKEN_LIFE, REFRESH_ANSWER_LOST, REFRESH_TOKEN_IDLE},
};
use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{Bearer, FamilyEnd, StoreError, Unscoped, token_families::end_one};

/// The hashes of a new pair of tokens.
#[derive(Clone, Copy, Debug)]
pub struct NewTokens {
    pub access_hash: [u8; 32],
    pub refresh_hash: [u8; 32],
}

/// What came of a refresh token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotated {
    Issued(Bearer),
    /// Never given out, expired, or of a family that has ended.
    Unknown,
    /// Proven with another key than the family's; nothing was changed.
    OtherKey,
    /// It had been used before, and no answer was lost: its family has ended now.
    Reused(Bearer),
}

/// An access token that counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessToken {
    pub bearer: Bearer,
    /// The device key of its family.
    pub key_jkt: String,
}

impl Unscoped<'_> {
    /// Exchanges a refresh token for the next pair.
    pub async fn rotate(
        &self,
        refresh_hash: &[u8; 32],
        key_jkt: &str,
        tokens: &NewTokens,
        now: Timestamp,
    ) -> Result<Rotated, StoreError> {
        let mut tx = self.pool.begin().await?;
        // The lock on the family makes two uses of one token follow each other.
        let Some(row) = sqlx::query!(
            "select t.org_id, t.family_id, t.expires_at, f.user_id, f.key_jkt, u.disabled_at
             from refresh_tokens t
             join token_families f on f.org_id = t.org_id and f.id = t.family_id
             join users u on u.org_id = f.org_id and u.id = f.user_id
             where t.token_hash = $1 and f.ended_at is null
             for update of f",
            refresh_hash
        )
        .fetch_optional(&mut *tx)
        .await?
        else {
            return Ok(Rotated::Unknown);
        };
        let bearer = Bearer { org: row.org_id.into(), user: row.user_id.into() };
        if row.key_jkt != key_jkt {
            return Ok(Rotated::OtherKey);
        }
        if row.disabled_at.is_some() || row.expires_at.to_jiff() <= now {
            return Ok(Rotated::Unknown);
        }
        if !spend(&mut tx, refresh_hash, &tokens.refresh_hash, now).await? {
            end_one(&mut tx, bearer.org, row.family_id, FamilyEnd::Reuse, now).await?;
            tx.commit().await?;
            return Ok(Rotated::Reused(bearer));
        }
        sqlx::query!(
            "update token_families set last_used_at = $3 where org_id = $1 and id = $2",
            row.org_id,
            row.family_id,
            now.to_sqlx()
        )
        .execute(&mut *tx)
        .await?;
        keep_tokens(&mut tx, bearer.org, row.family_id, tokens, now).await?;
        tx.commit().await?;
        Ok(Rotated::Issued(bearer))
    }

    /// Finds whose access token it is, if it counts.
    pub async fn access_token(
        &self,
        access_hash: &[u8; 32],
        now: Timestamp,
    ) -> Result<Option<AccessToken>, StoreError> {
        let row = sqlx::query!(
            "select t.org_id, f.user_id, f.key_jkt
             from access_tokens t
             join token_families f on f.org_id = t.org_id and f.id = t.family_id
             where t.token_hash = $1 and t.expires_at > $2 and f.ended_at is null",
            access_hash,
            now.to_sqlx()
        )
        .fetch_optional(self.pool)
        .await?;
        Ok(row.map(|row| AccessToken {
            bearer: Bearer { org: row.org_id.into(), user: row.user_id.into() },
            key_jkt: row.key_jkt,
        }))
    }
}

/// Puts `successor` after a refresh token; false when that one was used before, which is to be taken for a theft.
///
/// It is not when the answer to the first use was lost: then its successor is unused, and the laptop asks again at once.
/// The new successor takes the place of the lost one, which counts as used by it.
async fn spend(
    connection: &mut PgConnection,
    refresh_hash: &[u8; 32],
    successor: &[u8; 32],
    now: Timestamp,
) -> Result<bool, StoreError> {
    // Read under the lock of the family: what was read before may be older than a concurrent use.
    let row = sqlx::query!(
        r#"select t.used_at, s.token_hash as "lost?", s.used_at as "lost_used_at?"
           from refresh_tokens t
           left join refresh_tokens s on s.token_hash = t.successor_hash
           where t.token_hash = $1"#,
        refresh_hash
    )
    .fetch_one(&mut *connection)
    .await?;
    let mut spent = vec![refresh_hash.to_vec()];
    let used_at = match (row.used_at, row.lost, row.lost_used_at) {
        (None, ..) => now,
        (Some(used_at), Some(lost), None) if now < used_at.to_jiff() + REFRESH_ANSWER_LOST => {
            spent.push(lost);
            used_at.to_jiff()
        }
        _ => return Ok(false),
    };
    sqlx::query!(
        "update refresh_tokens set used_at = coalesce(used_at, $2), successor_hash = $3
         where token_hash = any($1)",
        &spent,
        used_at.to_sqlx(),
        successor
    )
    .execute(connection)
    .await?;
    Ok(true)
}

pub(crate) async fn keep_tokens(
    connection: &mut PgConnection,
    org: OrgId,
    family: Uuid,
    tokens: &NewTokens,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query!(
        "insert into refresh_tokens (token_hash, org_id, family_id, created_at, expires_at)
         values ($1, $2, $3, $4, $5)",
        &tokens.refresh_hash,
        org.as_uuid(),
        family,
        now.to_sqlx(),
        (now + REFRESH_TOKEN_IDLE).to_sqlx()
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!(
        "insert into access_tokens (token_hash, org_id, family_id, expires_at)
         values ($1, $2, $3, $4)",
        &tokens.access_hash,
        org.as_uuid(),
        family,
        (now + ACCESS_TOKEN_LIFE).to_sqlx()
    )
    .execute(connection)
    .await?;
    Ok(())
}
