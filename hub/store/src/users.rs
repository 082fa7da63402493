//! Users as their issuer knows them: made and refreshed at each sign-in.

use fairlead_model::{GroupId, OrgId, UserId};
use hub_policy::Role;
use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    Bearer, FamilyEnd, StoreError, Unscoped,
    audit::{self, Entry},
    authorization_codes, device_codes,
    notify::{self, Noun},
    role_bindings, token_families,
};

/// What an issuer said about somebody who just signed in. The address is verified, and lower case.
#[derive(Clone, Debug)]
pub struct SignIn {
    pub org: OrgId,
    pub connection_id: Uuid,
    pub subject: String,
    pub email: String,
    pub name: String,
    pub groups: Vec<String>,
}

/// Whether somebody may come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignedIn {
    Welcome(Bearer),
    /// An administrator has removed this member.
    Disabled,
}

impl Unscoped<'_> {
    /// Makes or refreshes the user and their groups; the awaited owner becomes owner.
    pub async fn sign_in(&self, sign_in: &SignIn, now: Timestamp) -> Result<SignedIn, StoreError> {
        let mut tx = self.pool.begin().await?;
        let found = match find(&mut tx, sign_in).await? {
            Some(found) => Some(found),
            None => adopt(&mut tx, sign_in).await?,
        };
        let user = match found {
            Some((_, Some(_))) => return Ok(SignedIn::Disabled),
            Some((user, None)) => refresh(&mut tx, sign_in, user, now).await?,
            None => insert(&mut tx, sign_in, now).await?,
        };
        join_groups(&mut tx, sign_in, user, now).await?;
        welcome_owner(&mut tx, sign_in, user, now).await?;
        notify::tell(&mut tx, sign_in.org, Noun::Members, user.as_uuid()).await?;
        tx.commit().await?;
        Ok(SignedIn::Welcome(Bearer { org: sign_in.org, user }))
    }

    /// Shuts a user out, or lets them in again, on the word of the operator.
    pub async fn set_user_disabled(
        &self,
        bearer: Bearer,
        disabled: bool,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut tx = self.pool.begin().await?;
        if disabled {
            shut_out(&mut tx, bearer, now).await?;
        } else {
            let_in(&mut tx, bearer).await?;
        }
        let action = if disabled { "member.removed" } else { "member.restored" };
        audit::record(&mut tx, Entry::by_operator(bearer.org, action, bearer.user), now).await?;
        notify::tell(&mut tx, bearer.org, Noun::Members, bearer.user.as_uuid()).await?;
        Ok(tx.commit().await?)
    }

    /// Returns the owner with this address, and makes one where there is none: what `admin recover` stands on.
    pub async fn ensure_owner(
        &self,
        org: OrgId,
        email: &str,
        now: Timestamp,
    ) -> Result<Bearer, StoreError> {
        let mut tx = self.pool.begin().await?;
        let known = sqlx::query_scalar!(
            "select id from users where org_id = $1 and email = $2 and not is_service
             order by last_signed_in_at desc nulls last limit 1",
            org.as_uuid(),
            email
        )
        .fetch_optional(&mut *tx)
        .await?;
        let user = match known {
            Some(id) => id.into(),
            None => insert_without_issuer(&mut tx, org, email, now).await?,
        };
        let bearer = Bearer { org, user };
        let_in(&mut tx, bearer).await?;
        role_bindings::bind_user(&mut tx, org, user, Role::Owner, now).await?;
        audit::record(&mut tx, Entry::by_operator(org, "owner.recovered", email), now).await?;
        tx.commit().await?;
        Ok(bearer)
    }
}

type Found = (UserId, Option<jiff_sqlx::Timestamp>);

async fn find(connection: &mut PgConnection, who: &SignIn) -> Result<Option<Found>, StoreError> {
    let row = sqlx::query!(
        "select id, disabled_at from users
         where org_id = $1 and connection_id = $2 and subject = $3
         for update",
        who.org.as_uuid(),
        who.connection_id,
        who.subject
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| (row.id.into(), row.disabled_at)))
}

/// Takes over the user of this address who is tied to no connection: made by `admin recover`, or left when a connection
/// was removed.
async fn adopt(connection: &mut PgConnection, who: &SignIn) -> Result<Option<Found>, StoreError> {
    let row = sqlx::query!(
        "update users set connection_id = $2, subject = $3
         where org_id = $1 and connection_id is null and id = (
           select id from users where org_id = $1 and connection_id is null and email = $4
             and not is_service
           order by last_signed_in_at desc nulls last, id limit 1
         )
         returning id, disabled_at",
        who.org.as_uuid(),
        who.connection_id,
        who.subject,
        who.email
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| (row.id.into(), row.disabled_at)))
}

async fn refresh(
    connection: &mut PgConnection,
    who: &SignIn,
    user: UserId,
    now: Timestamp,
) -> Result<UserId, StoreError> {
    sqlx::query!(
        "update users set email = $3, name = $4, last_signed_in_at = $5
         where org_id = $1 and id = $2",
        who.org.as_uuid(),
        user.as_uuid(),
        who.email,
        who.name,
        now.to_sqlx()
    )
    .execute(connection)
    .await?;
    Ok(user)
}

async fn insert(
    connection: &mut PgConnection,
    who: &SignIn,
    now: Timestamp,
) -> Result<UserId, StoreError> {
    let user = UserId::generate();
    sqlx::query!(
        "insert into users (org_id, id, connection_id, subject, email, name, created_at,
                            last_signed_in_at)
         values ($1, $2, $3, $4, $5, $6, $7, $7)",
        who.org.as_uuid(),
        user.as_uuid(),
        who.connection_id,
        who.subject,
        who.email,
        who.name,
        now.to_sqlx()
    )
    .execute(&mut *connection)
    .await?;
    let entry = Entry::by_hub(who.org, "member.joined", user)
        .with(serde_json::json!({ "email": who.email }));
    audit::record(connection, entry, now).await?;
    Ok(user)
}

async fn insert_without_issuer(
    connection: &mut PgConnection,
    org: OrgId,
    email: &str,
    now: Timestamp,
) -> Result<UserId, StoreError> {
    let user = UserId::generate();
    sqlx::query!(
        "insert into users (org_id, id, email, name, created_at) values ($1, $2, $3, $3, $4)",
        org.as_uuid(),
        user.as_uuid(),
        email,
        now.to_sqlx()
    )
    .execute(connection)
    .await?;
    Ok(user)
}

/// Makes the user a member of exactly the groups that the issuer named.
async fn join_groups(
    connection: &mut PgConnection,
    who: &SignIn,
    user: UserId,
    now: Timestamp,
) -> Result<(), StoreError> {
    for name in &who.groups {
        sqlx::query!(
            "insert into groups (org_id, id, name, created_at) values ($1, $2, $3, $4)
             on conflict (org_id, name) do nothing",
            who.org.as_uuid(),
            GroupId::generate().as_uuid(),
            name,
            now.to_sqlx()
        )
        .execute(&mut *connection)
        .await?;
    }
    sqlx::query!(
        "delete from group_members m using groups g
         where m.org_id = $1 and m.user_id = $2 and g.org_id = $1 and g.id = m.group_id
           and g.name <> all($3)",
        who.org.as_uuid(),
        user.as_uuid(),
        &who.groups
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!(
        "insert into group_members (org_id, group_id, user_id)
         select org_id, id, $2 from groups where org_id = $1 and name = any($3)
         on conflict do nothing",
        who.org.as_uuid(),
        user.as_uuid(),
        &who.groups
    )
    .execute(connection)
    .await?;
    Ok(())
}

async fn welcome_owner(
    connection: &mut PgConnection,
    who: &SignIn,
    user: UserId,
    now: Timestamp,
) -> Result<(), StoreError> {
    let awaited = sqlx::query!(
        "update organizations set owner_email = null where id = $1 and owner_email = $2",
        who.org.as_uuid(),
        who.email
    )
    .execute(&mut *connection)
    .await?;
    if awaited.rows_affected() == 0 {
        return Ok(());
    }
    role_bindings::bind_user(connection, who.org, user, Role::Owner, now).await?;
    let entry = Entry::by_hub(who.org, "owner.arrived", user)
        .with(serde_json::json!({ "email": who.email }));
    audit::record(connection, entry, now).await
}

/// Lets a user sign in again; false when they might already.
pub(crate) async fn let_in(
    connection: &mut PgConnection,
    bearer: Bearer,
) -> Result<bool, StoreError> {
    let restored = sqlx::query!(
        "update users set disabled_at = null
         where org_id = $1 and id = $2 and disabled_at is not null",
        bearer.org.as_uuid(),
        bearer.user.as_uuid()
    )
    .execute(connection)
    .await?;
    Ok(restored.rows_affected() > 0)
}

/// Disables a user and ends everything with which they could act.
pub(crate) async fn shut_out(
    connection: &mut PgConnection,
    bearer: Bearer,
    now: Timestamp,
) -> Result<(), StoreError> {
    let found = sqlx::query!(
        "update users set disabled_at = coalesce(disabled_at, $3) where org_id = $1 and id = $2",
        bearer.org.as_uuid(),
        bearer.user.as_uuid(),
        now.to_sqlx()
    )
    .execute(&mut *connection)
    .await?;
    if found.rows_affected() == 0 {
        return Err(StoreError::NotFound { noun: "member" });
    }
    sqlx::query!(
        "delete from web_sessions where org_id = $1 and user_id = $2",
        bearer.org.as_uuid(),
        bearer.user.as_uuid()
    )
    .execute(&mut *connection)
    .await?;
    authorization_codes::forget_codes(connection, bearer).await?;
    device_codes::forget_device_codes(connection, bearer).await?;
    token_families::end_families(connection, bearer, None, FamilyEnd::UserDisabled, now).await
}
