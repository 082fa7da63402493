//! Families of tokens: one is one sign-in on one laptop, and what its links and sessions stand on. The tokens in it are in
//! `tokens.rs`.

use std::collections::BTreeSet;

use fairlead_model::{DeviceId, OrgId, timers::REFRESH_TOKEN_IDLE};
use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    AuthorizationCode, Bearer, Device, NewTokens, Scoped, StoreError, Unscoped,
    audit::{self, Entry},
    notify::{self, Noun},
    tokens::keep_tokens,
};

/// Why a family ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FamilyEnd {
    Logout,
    Reuse,
    DeviceRemoved,
    UserDisabled,
    ConnectionRemoved,
    TokenRevoked,
    TokenExpired,
}

impl FamilyEnd {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Logout => "logout",
            Self::Reuse => "reuse",
            Self::DeviceRemoved => "device removed",
            Self::UserDisabled => "user disabled",
            Self::ConnectionRemoved => "connection removed",
            Self::TokenRevoked => "token revoked",
            Self::TokenExpired => "token expired",
        }
    }
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

    /// Lists the devices that may have a link: those of a member, with a sign-in that still counts. All of them, or those
    /// among some.
    pub async fn signed_in_devices(
        &self,
        among: Option<&[DeviceId]>,
        now: Timestamp,
    ) -> Result<BTreeSet<DeviceId>, StoreError> {
        let among = among.map(|ids| ids.iter().map(|id| id.as_uuid()).collect::<Vec<_>>());
        let ids = sqlx::query_scalar!(
            "select d.id from devices d
             join users u on (u.org_id, u.id) = (d.org_id, d.user_id)
             where d.org_id = $1 and d.removed_at is null and u.disabled_at is null
               and ($3::uuid[] is null or d.id = any($3))
               and exists (
                 select 1 from token_families f
                 where (f.org_id, f.user_id, f.key_jkt) = (d.org_id, d.user_id, d.key_jkt)
                   and f.ended_at is null and f.last_used_at > $2
               )",
            self.org.as_uuid(),
            (now - REFRESH_TOKEN_IDLE).to_sqlx() as _,
            among as Option<Vec<Uuid>>,
        )
        .fetch_all(self.pool)
        .await?;
        Ok(ids.into_iter().map(DeviceId::from).collect())
    }
}

impl Unscoped<'_> {
    /// Begins the family of a code. Returns false when somebody else was first.
    pub async fn begin_family(
        &self,
        code_hash: &[u8; 32],
        code: &AuthorizationCode,
        tokens: &NewTokens,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let mut tx = self.pool.begin().await?;
        let bearer = Bearer { org: code.org_id, user: code.user_id };
        let family = new_family(&mut tx, bearer, &code.key_jkt, tokens, now).await?;
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
        tx.commit().await?;
        Ok(true)
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

/// Begins a family with its first pair.
pub(crate) async fn new_family(
    connection: &mut PgConnection,
    bearer: Bearer,
    key_jkt: &str,
    tokens: &NewTokens,
    now: Timestamp,
) -> Result<Uuid, StoreError> {
    let family = Uuid::now_v7();
    sqlx::query!(
        "insert into token_families (org_id, id, user_id, key_jkt, created_at, last_used_at)
         values ($1, $2, $3, $4, $5, $5)",
        bearer.org.as_uuid(),
        family,
        bearer.user.as_uuid(),
        key_jkt,
        now.to_sqlx()
    )
    .execute(&mut *connection)
    .await?;
    keep_tokens(connection, bearer.org, family, tokens, now).await?;
    Ok(family)
}

/// Ends a family that lives, and with it those that the same laptop began before and never ended.
pub(crate) async fn end_one(
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
