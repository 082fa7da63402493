//! Service accounts: programs of an organization, each with tokens that are stored as hashes. What signs in with a token is a
//! family like any other (`token_families.rs`), which ends with the token.
//!
//! A token is found by its SHA-256, as every token is: how long that takes may say something about hashes, and from a hash
//! nobody gets to a token of 256 random bits.

use fairlead_model::{ApiTokenId, OrgId, TeamspaceId, Token, UserId};
use hub_policy::{
    Permit, Role, TeamspaceName,
    actions::{
        CreateApiToken, CreateServiceAccount, DeleteServiceAccount, ListServiceAccounts,
        RevokeApiToken, RoleHolder,
    },
};
use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use serde_json::json;
use sqlx::PgConnection;

use crate::{
    Bearer, FamilyEnd, NewTokens, Scoped, Store, StoreError, Unscoped,
    audit::{self, Entry},
    notify::{self, Noun},
    role_bindings,
    token_families::new_family,
    users,
};

/// More than anybody lists.
const ACCOUNTS_MAX: i64 = 200;
/// Of one account, those that are revoked or expired not counted.
const TOKENS_MAX: i64 = 50;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceAccount {
    pub id: UserId,
    pub name: String,
    pub roles: Vec<Role>,
    /// Where the roles count, by name; `None`: in every teamspace.
    pub teamspaces: Option<Vec<TeamspaceName>>,
    pub created_at: Timestamp,
    /// Those that count.
    pub tokens: Vec<ApiToken>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiToken {
    pub id: ApiTokenId,
    pub name: String,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
    pub last_used_at: Option<Timestamp>,
}

impl Scoped<'_> {
    /// Says whether this organization has a service account of this id that was not deleted.
    pub async fn has_service_account(&self, id: UserId) -> Result<bool, StoreError> {
        Ok(sqlx::query_scalar!(
            r#"select exists (select 1 from users where org_id = $1 and id = $2 and is_service
                              and disabled_at is null) as "there!""#,
            self.org.as_uuid(),
            id.as_uuid()
        )
        .fetch_one(self.pool)
        .await?)
    }

    /// Says whether this organization has a token of this id that was not revoked.
    pub async fn has_api_token(&self, id: ApiTokenId) -> Result<bool, StoreError> {
        Ok(sqlx::query_scalar!(
            r#"select exists (select 1 from api_tokens where org_id = $1 and id = $2
                              and revoked_at is null) as "there!""#,
            self.org.as_uuid(),
            id.as_uuid()
        )
        .fetch_one(self.pool)
        .await?)
    }
}

impl Store {
    pub async fn service_accounts(
        &self,
        permit: &Permit<ListServiceAccounts>,
        now: Timestamp,
    ) -> Result<Vec<ServiceAccount>, StoreError> {
        let org = permit.org();
        let accounts = sqlx::query!(
            r#"select u.id, u.email, u.created_at,
                      array(select distinct b.role from role_bindings b
                            where b.org_id = u.org_id and b.user_id = u.id
                            order by b.role) as "roles!",
                      array(select distinct t.name from role_bindings b
                            join teamspaces t on t.org_id = b.org_id and t.id = b.teamspace_id
                            where b.org_id = u.org_id and b.user_id = u.id
                            order by t.name) as "teamspaces!",
                      exists (select 1 from role_bindings b
                              where b.org_id = u.org_id and b.user_id = u.id
                                and b.teamspace_id is null) as "everywhere!"
               from users u where u.org_id = $1 and u.is_service and u.disabled_at is null
               order by u.email"#,
            org.as_uuid()
        )
        .fetch_all(&self.pool)
        .await?;
        let tokens = sqlx::query!(
            "select user_id, id, name, created_at, expires_at, last_used_at from api_tokens
             where org_id = $1 and revoked_at is null and expires_at > $2 order by created_at",
            org.as_uuid(),
            now.to_sqlx()
        )
        .fetch_all(&self.pool)
        .await?;
        let tokens_of = |account: uuid::Uuid| {
            let of_it = tokens.iter().filter(move |token| token.user_id == account);
            of_it.map(|token| ApiToken {
                id: token.id.into(),
                name: token.name.clone(),
                created_at: token.created_at.to_jiff(),
                expires_at: token.expires_at.to_jiff(),
                last_used_at: token.last_used_at.map(|at| at.to_jiff()),
            })
        };
        accounts
            .into_iter()
            .map(|row| {
                let roles = row.roles.iter().map(|role| role_bindings::read(role));
                let name = |text: &String| {
                    text.parse().map_err(|error| StoreError::damaged("teamspace", error))
                };
                let teamspaces = row.teamspaces.iter().map(name).collect::<Result<_, _>>()?;
                Ok(ServiceAccount {
                    id: row.id.into(),
                    name: row.email,
                    roles: roles.collect::<Result<_, _>>()?,
                    teamspaces: (!row.everywhere).then_some(teamspaces),
                    created_at: row.created_at.to_jiff(),
                    tokens: tokens_of(row.id).collect(),
                })
            })
            .collect()
    }

    pub async fn create_service_account(
        &self,
        permit: &Permit<CreateServiceAccount>,
        now: Timestamp,
    ) -> Result<UserId, StoreError> {
        let CreateServiceAccount { name, roles, teamspaces } = permit.action();
        let (org, id) = (permit.org(), UserId::generate());
        let mut tx = self.pool.begin().await?;
        role_bindings::lock(&mut tx, org).await?;
        let made = sqlx::query!(
            "insert into users (org_id, id, email, name, created_at, is_service)
             select $1, $2, $3, $3, $4, true
             where (select count(*) from users where org_id = $1 and is_service
                    and disabled_at is null) < $5",
            org.as_uuid(),
            id.as_uuid(),
            name,
            now.to_sqlx(),
            ACCOUNTS_MAX
        )
        .execute(&mut *tx)
        .await?;
        if made.rows_affected() == 0 {
            return Err(StoreError::Conflict { constraint: TOO_MANY.to_owned() });
        }
        let places: Vec<Option<TeamspaceId>> = match teamspaces {
            None => vec![None],
            Some(teamspaces) => teamspaces.iter().copied().map(Some).collect(),
        };
        for place in places {
            for role in roles {
                let holder = RoleHolder::User(id);
                role_bindings::bind(&mut tx, org, holder, *role, place, now).await?;
            }
        }
        let entry = Entry::by(permit, "service_account.created", id)
            .with(json!({ "name": name, "roles": roles, "teamspaces": teamspaces }));
        audit::record(&mut tx, entry, now).await?;
        tx.commit().await?;
        Ok(id)
    }

    /// Shuts a service account out for good: its tokens and everything that lives by them end.
    pub async fn delete_service_account(
        &self,
        permit: &Permit<DeleteServiceAccount>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let bearer = Bearer { org: permit.org(), user: permit.action().account };
        let mut tx = self.pool.begin().await?;
        expect_account(&mut tx, bearer).await?;
        sqlx::query!(
            "update api_tokens set revoked_at = $3
             where org_id = $1 and user_id = $2 and revoked_at is null",
            bearer.org.as_uuid(),
            bearer.user.as_uuid(),
            now.to_sqlx()
        )
        .execute(&mut *tx)
        .await?;
        users::shut_out(&mut tx, bearer, now).await?;
        audit::record(&mut tx, Entry::by(permit, "service_account.deleted", bearer.user), now)
            .await?;
        notify::tell(&mut tx, bearer.org, Noun::Members, bearer.user.as_uuid()).await?;
        Ok(tx.commit().await?)
    }

    /// Remembers a new token by its hash.
    pub async fn create_api_token(
        &self,
        permit: &Permit<CreateApiToken>,
        token: &Token,
        expires_at: Timestamp,
        now: Timestamp,
    ) -> Result<ApiTokenId, StoreError> {
        let CreateApiToken { account, name } = permit.action();
        let bearer = Bearer { org: permit.org(), user: *account };
        let id = ApiTokenId::generate();
        let mut tx = self.pool.begin().await?;
        expect_account(&mut tx, bearer).await?;
        let made = sqlx::query!(
            "insert into api_tokens (token_hash, org_id, id, user_id, name, created_by, created_at,
                                     expires_at)
             select $1, $2, $3, $4, $5, $6, $7, $8
             where (select count(*) from api_tokens where org_id = $2 and user_id = $4
                    and revoked_at is null and expires_at > $7) < $9",
            &token.hash()[..],
            bearer.org.as_uuid(),
            id.as_uuid(),
            bearer.user.as_uuid(),
            name,
            permit.caller().actor.user().as_uuid(),
            now.to_sqlx(),
            expires_at.to_sqlx(),
            TOKENS_MAX
        )
        .execute(&mut *tx)
        .await?;
        if made.rows_affected() == 0 {
            return Err(StoreError::Conflict { constraint: TOO_MANY.to_owned() });
        }
        let entry = Entry::by(permit, "api_token.created", id)
            .with(json!({ "service_account": account, "name": name, "expires_at": expires_at }));
        audit::record(&mut tx, entry, now).await?;
        tx.commit().await?;
        Ok(id)
    }

    /// Revokes a token, and ends everything that lives by it.
    pub async fn revoke_api_token(
        &self,
        permit: &Permit<RevokeApiToken>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let (org, id) = (permit.org(), permit.action().id);
        let mut tx = self.pool.begin().await?;
        let user = sqlx::query_scalar!(
            "update api_tokens set revoked_at = $3
             where org_id = $1 and id = $2 and revoked_at is null returning user_id",
            org.as_uuid(),
            id.as_uuid(),
            now.to_sqlx()
        )
        .fetch_optional(&mut *tx)
        .await?
        .ok_or(StoreError::NotFound { noun: "API token" })?;
        end_what_it_began(&mut tx, org, id, FamilyEnd::TokenRevoked, now).await?;
        let entry =
            Entry::by(permit, "api_token.revoked", id).with(json!({ "service_account": user }));
        audit::record(&mut tx, entry, now).await?;
        notify::tell(&mut tx, org, Noun::Members, user).await?;
        Ok(tx.commit().await?)
    }
}

/// Marks the conflict of an organization that has as many as it may.
pub const TOO_MANY: &str = "too_many";

impl Unscoped<'_> {
    /// Begins a family for whoever brings an API token; `None` when the token does not count.
    pub async fn begin_with_api_token(
        &self,
        token_hash: &[u8; 32],
        key_jkt: &str,
        tokens: &NewTokens,
        now: Timestamp,
    ) -> Result<Option<Bearer>, StoreError> {
        let mut tx = self.pool.begin().await?;
        let Some(row) = sqlx::query!(
            "update api_tokens t set last_used_at = $2 from users u
             where t.token_hash = $1 and t.revoked_at is null and t.expires_at > $2
               and u.org_id = t.org_id and u.id = t.user_id and u.disabled_at is null
             returning t.org_id, t.user_id, t.id",
            token_hash,
            now.to_sqlx()
        )
        .fetch_optional(&mut *tx)
        .await?
        else {
            return Ok(None);
        };
        let bearer = Bearer { org: row.org_id.into(), user: row.user_id.into() };
        let family = new_family(&mut tx, bearer, key_jkt, tokens, now).await?;
        sqlx::query!(
            "update token_families set api_token_id = $3 where org_id = $1 and id = $2",
            row.org_id,
            family,
            row.id
        )
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(Some(bearer))
    }

    /// Ends what tokens began that have expired meanwhile.
    pub async fn end_expired_api_tokens(&self, now: Timestamp) -> Result<(), StoreError> {
        let expired = sqlx::query!(
            "select distinct t.org_id, t.id, t.user_id from api_tokens t
             join token_families f on f.org_id = t.org_id and f.api_token_id = t.id
             where t.expires_at <= $1 and f.ended_at is null limit 1000",
            now.to_sqlx()
        )
        .fetch_all(self.pool)
        .await?;
        for row in expired {
            let mut tx = self.pool.begin().await?;
            let (org, id) = (OrgId::from(row.org_id), ApiTokenId::from(row.id));
            end_what_it_began(&mut tx, org, id, FamilyEnd::TokenExpired, now).await?;
            let entry = Entry::by_hub(org, "api_token.expired", id)
                .with(json!({ "service_account": row.user_id }));
            audit::record(&mut tx, entry, now).await?;
            notify::tell(&mut tx, org, Noun::Members, row.user_id).await?;
            tx.commit().await?;
        }
        Ok(())
    }
}

async fn expect_account(connection: &mut PgConnection, bearer: Bearer) -> Result<(), StoreError> {
    // The lock keeps a token from being made while its account goes.
    let found = sqlx::query!(
        "select id from users where org_id = $1 and id = $2 and is_service and disabled_at is null
         for update",
        bearer.org.as_uuid(),
        bearer.user.as_uuid()
    )
    .fetch_optional(connection)
    .await?;
    found.map(drop).ok_or(StoreError::NotFound { noun: "service account" })
}

async fn end_what_it_began(
    connection: &mut PgConnection,
    org: OrgId,
    token: ApiTokenId,
    end: FamilyEnd,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query!(
        "update token_families set ended_at = $3, end_reason = $4
         where org_id = $1 and api_token_id = $2 and ended_at is null",
        org.as_uuid(),
        token.as_uuid(),
        now.to_sqlx(),
        end.as_str()
    )
    .execute(connection)
    .await?;
    Ok(())
}
