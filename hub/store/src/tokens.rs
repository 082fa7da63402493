//! The OAuth tokens of our command line: codes, and families of refresh and access tokens, all stored as hashes.
//!
//! A family is one sign-in on one laptop, and what its links and sessions stand on. Refresh tokens follow each other in
//! it; when one is used after its successor was, somebody has copied it, nobody can tell who is who, and the whole family
//! ends.

use fairlead_model::{
    OrgId, UserId,
    timers::{ACCESS_TOKEN_LIFE, REFRESH_ANSWER_LOST, REFRESH_TOKEN_IDLE},
};
use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    Bearer, Device, Scoped, StoreError, Unscoped,
    audit::{self, Entry},
    notify::{self, Noun},
};

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

/// Why a family ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FamilyEnd {
    Logout,
    Reuse,
    DeviceRemoved,
    UserDisabled,
    ConnectionRemoved,
}

impl FamilyEnd {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Logout => "logout",
            Self::Reuse => "reuse",
            Self::DeviceRemoved => "device removed",
            Self::UserDisabled => "user disabled",
            Self::ConnectionRemoved => "connection removed",
        }
    }
}

/// An access token that counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessToken {
    pub bearer: Bearer,
    /// The device key of its family.
    pub key_jkt: String,
}

impl Scoped<'_> {
    /// Says whether a sign-in with the key of this device still counts: without one, its certificate is worth nothing.
    pub async fn is_signed_in(&self, device: &Device, now: Timestamp) -> Result<bool, StoreError> {
        Ok(sqlx::query_scalar!(
            r#"select exists (
                 select 1 from token_families
                 where org_id = $1 and user_id = $2 and key_jkt = $3 and ended_at is null
                   and last_used_at > $4
               ) as "signed_in!""#,
            self.org.as_uuid(),
            device.user_id.as_uuid(),
            device.key_jkt,
            (now - REFRESH_TOKEN_IDLE).to_sqlx()
        )
        .fetch_one(self.pool)
        .await?)
    }
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

    /// Begins the family of a code. Returns false when somebody else was first.
    pub async fn begin_family(
        &self,
        code_hash: &[u8; 32],
        code: &AuthorizationCode,
        tokens: &NewTokens,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let family = Uuid::now_v7();
        let mut tx = self.pool.begin().await?;
        sqlx::query!(
            "insert into token_families (org_id, id, user_id, key_jkt, created_at, last_used_at)
             values ($1, $2, $3, $4, $5, $5)",
            code.org_id.as_uuid(),
            family,
            code.user_id.as_uuid(),
            code.key_jkt,
            now.to_sqlx()
        )
        .execute(&mut *tx)
        .await?;
        let spent = sqlx::query!(
            "update authorization_codes set family_id = $2
             where code_hash = $1 and family_id is null",
            code_hash,
            family
        )
        .execute(&mut *tx)
        .await?;
        if spent.rows_affected() == 0 {
            return Ok(false);
        }
        keep_tokens(&mut tx, code.org_id, family, tokens, now).await?;
        tx.commit().await?;
        Ok(true)
    }

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

    pub async fn end_family(
        &self,
        org: OrgId,
        family: Uuid,
        end: FamilyEnd,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut tx = self.pool.begin().await?;
        end_one(&mut tx, org, family, end, now).await?;
        Ok(tx.commit().await?)
    }

    /// Ends the family to which a refresh or access token belongs, if there is one.
    pub async fn end_family_of_token(
        &self,
        token_hash: &[u8; 32],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let family = sqlx::query!(
            r#"select org_id as "org_id!", family_id as "family_id!" from (
                 select org_id, family_id from refresh_tokens where token_hash = $1
                 union all
                 select org_id, family_id from access_tokens where token_hash = $1
               ) as both_kinds"#,
            token_hash
        )
        .fetch_optional(self.pool)
        .await?;
        match family {
            Some(row) => {
                self.end_family(row.org_id.into(), row.family_id, FamilyEnd::Logout, now).await
            }
            None => Ok(()),
        }
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

async fn keep_tokens(
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

/// Ends a family that lives, and with it those that the same laptop began before and never ended.
async fn end_one(
    connection: &mut PgConnection,
    org: OrgId,
    family: Uuid,
    end: FamilyEnd,
    now: Timestamp,
) -> Result<(), StoreError> {
    let ended = sqlx::query_scalar!(
        "update token_families f set ended_at = $3, end_reason = $4
         from token_families this
         where this.org_id = $1 and this.id = $2 and this.ended_at is null
           and (f.org_id, f.user_id, f.key_jkt) = (this.org_id, this.user_id, this.key_jkt)
           and f.ended_at is null
         returning f.user_id",
        org.as_uuid(),
        family,
        now.to_sqlx(),
        end.as_str()
    )
    .fetch_all(&mut *connection)
    .await?;
    let Some(user) = ended.first().copied() else { return Ok(()) };
    let entry = Entry::by_hub(org, "sign_in.ended", user)
        .with(serde_json::json!({ "reason": end.as_str() }));
    audit::record(connection, entry, now).await?;
    // What stood on the sign-in, sessions and a link, is looked at again.
    notify::tell(connection, org, Noun::Members, user).await
}

/// Forgets the codes with which somebody could begin another family. Comes before [`end_families`], which then sees every
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

/// Ends every family of a user, or only those of one device key. Whoever calls it tells of the member.
pub(crate) async fn end_families(
    connection: &mut PgConnection,
    bearer: Bearer,
    key_jkt: Option<&str>,
    end: FamilyEnd,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query!(
        "update token_families set ended_at = $3, end_reason = $4
         where org_id = $1 and user_id = $2 and ended_at is null
           and ($5::text is null or key_jkt = $5)",
        bearer.org.as_uuid(),
        bearer.user.as_uuid(),
        now.to_sqlx(),
        end.as_str(),
        key_jkt
    )
    .execute(connection)
    .await?;
    Ok(())
}
