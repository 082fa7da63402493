//! Which roles are bound to whom, and the caller that follows from it.

use std::collections::BTreeMap;

use fairlead_model::{OrgId, TeamspaceId, UserId};
use hub_policy::{
    Actor, Caller, Permit, Role, RoleBinding,
    actions::{RoleHolder, SetRoles},
};
use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    Scoped, Store, StoreError,
    audit::{self, Entry},
    notify::{self, Noun},
};

impl Scoped<'_> {
    /// Returns a user as a caller, with the roles of themselves and their groups; nothing for one who was removed.
    pub async fn caller_of(&self, user: UserId) -> Result<Option<Caller>, StoreError> {
        Ok(self.callers_of(&[user]).await?.remove(&user))
    }

    /// The same of several users; those who were removed are left out.
    pub async fn callers_of(
        &self,
        users: &[UserId],
    ) -> Result<BTreeMap<UserId, Caller>, StoreError> {
        let ids: Vec<Uuid> = users.iter().map(|user| user.as_uuid()).collect();
        let rows = sqlx::query!(
            r#"select u.id, u.email, u.is_service,
                      array(select g.name from group_members m
                            join groups g on g.org_id = m.org_id and g.id = m.group_id
                            where m.org_id = u.org_id and m.user_id = u.id
                            order by g.name) as "groups!"
               from users u where u.org_id = $1 and u.id = any($2) and u.disabled_at is null"#,
            self.org.as_uuid(),
            &ids
        )
        .fetch_all(self.pool)
        .await?;
        let mut roles = match rows.is_empty() {
            true => BTreeMap::new(),
            false => self.bindings_of(&ids).await?,
        };
        let callers = rows.into_iter().map(|row| {
            let id = row.id.into();
            let actor = match row.is_service {
                true => Actor::Service { id, name: row.email },
                false => Actor::User { id, email: row.email },
            };
            let roles = roles.remove(&id).unwrap_or_default();
            (id, Caller { org: self.org, actor, roles, groups: row.groups, from: None })
        });
        Ok(callers.collect())
    }

    /// Returns the display name of a member.
    pub async fn name_of(&self, user: UserId) -> Result<String, StoreError> {
        sqlx::query_scalar!(
            "select name from users where org_id = $1 and id = $2",
            self.org.as_uuid(),
            user.as_uuid()
        )
        .fetch_optional(self.pool)
        .await?
        .ok_or(StoreError::NotFound { noun: "member" })
    }

    async fn bindings_of(
        &self,
        users: &[Uuid],
    ) -> Result<BTreeMap<UserId, Vec<RoleBinding>>, StoreError> {
        let rows = sqlx::query!(
            r#"select distinct coalesce(b.user_id, m.user_id) as "user_id!", b.role, b.teamspace_id
               from role_bindings b
               left join group_members m on m.org_id = b.org_id and m.group_id = b.group_id
               where b.org_id = $1 and (b.user_id = any($2) or m.user_id = any($2))"#,
            self.org.as_uuid(),
            users
        )
        .fetch_all(self.pool)
        .await?;
        let mut bindings = BTreeMap::<UserId, Vec<RoleBinding>>::new();
        for row in rows {
            let teamspace = row.teamspace_id.map(Into::into);
            let binding = RoleBinding { role: read(&row.role)?, teamspace };
            bindings.entry(row.user_id.into()).or_default().push(binding);
        }
        Ok(bindings)
    }

    /// Returns the organization-wide roles bound to a user or group itself; `NotFound` when there is no such holder.
    pub async fn roles_of(&self, holder: RoleHolder) -> Result<Vec<Role>, StoreError> {
        let mut connection = self.pool.acquire().await?;
        expect_holder(&mut connection, self.org, holder).await?;
        roles_of(&mut connection, self.org, holder).await
    }
}

impl Store {
    /// Replaces the organization-wide roles of a user or group.
    ///
    /// The permit was decided on the roles as they were; when somebody changed them since, this is a conflict.
    pub async fn set_roles(
        &self,
        permit: &Permit<SetRoles>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let SetRoles { holder, before, after } = permit.action();
        let (user, group) = columns(*holder);
        let mut tx = self.pool.begin().await?;
        lock(&mut tx, permit.org()).await?;
        let mut expected = before.clone();
        expected.sort_unstable();
        if roles_of(&mut tx, permit.org(), *holder).await? != expected {
            return Err(StoreError::Conflict { constraint: "roles_changed_meanwhile".to_owned() });
        }
        sqlx::query!(
            "delete from role_bindings
             where org_id = $1 and teamspace_id is null
               and user_id is not distinct from $2 and group_id is not distinct from $3",
            permit.org().as_uuid(),
            user,
            group
        )
        .execute(&mut *tx)
        .await?;
        for role in after {
            bind(&mut tx, permit.org(), *holder, *role, None, now).await?;
        }
        keep_an_owner(&mut tx, permit.org()).await?;
        let subject = user.or(group).unwrap_or_default();
        let entry = Entry::by(permit, "roles.changed", subject)
            .with(json!({ "before": before, "after": after }));
        audit::record(&mut tx, entry, now).await?;
        notify::tell(&mut tx, permit.org(), Noun::Members, subject).await?;
        Ok(tx.commit().await?)
    }
}

/// Binds a role to a user in the whole organization, unless it is already.
pub(crate) async fn bind_user(
    connection: &mut PgConnection,
    org: OrgId,
    user: UserId,
    role: Role,
    now: Timestamp,
) -> Result<(), StoreError> {
    bind(connection, org, RoleHolder::User(user), role, None, now).await
}

pub(crate) async fn bind(
    connection: &mut PgConnection,
    org: OrgId,
    holder: RoleHolder,
    role: Role,
    teamspace: Option<TeamspaceId>,
    now: Timestamp,
) -> Result<(), StoreError> {
    let (user, group) = columns(holder);
    sqlx::query!(
        "insert into role_bindings (org_id, id, role, user_id, group_id, teamspace_id, created_at)
         values ($1, $2, $3, $4, $5, $6, $7) on conflict do nothing",
        org.as_uuid(),
        Uuid::now_v7(),
        role.as_str(),
        user,
        group,
        teamspace.map(TeamspaceId::as_uuid),
        now.to_sqlx()
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Refuses a change that would leave the organization without an owner who can sign in.
pub(crate) async fn keep_an_owner(
    connection: &mut PgConnection,
    org: OrgId,
) -> Result<(), StoreError> {
    let owned = sqlx::query_scalar!(
        r#"select exists (
             select 1 from role_bindings b
             left join group_members m on m.org_id = b.org_id and m.group_id = b.group_id
             join users u on u.org_id = b.org_id and u.id in (b.user_id, m.user_id)
             where b.org_id = $1 and b.role = 'owner' and b.teamspace_id is null
               and u.disabled_at is null
           ) as "owned!""#,
        org.as_uuid()
    )
    .fetch_one(connection)
    .await?;
    if owned {
        return Ok(());
    }
    Err(StoreError::Conflict { constraint: "organization_needs_an_owner".to_owned() })
}

/// Refuses a change that was decided while somebody was an owner who is none now, or the other way round. Under the lock.
pub(crate) async fn expect_owner(
    connection: &mut PgConnection,
    org: OrgId,
    user: UserId,
    expected: bool,
) -> Result<(), StoreError> {
    if owns(connection, org, user).await? == expected {
        return Ok(());
    }
    Err(StoreError::Conflict { constraint: "roles_changed_meanwhile".to_owned() })
}

/// Says whether somebody holds the role of owner everywhere, by themselves or by a group, whether or not they may sign in.
pub(crate) async fn owns(
    connection: &mut PgConnection,
    org: OrgId,
    user: UserId,
) -> Result<bool, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"select exists (
             select 1 from role_bindings b
             left join group_members m on m.org_id = b.org_id and m.group_id = b.group_id
             where b.org_id = $1 and b.role = 'owner' and b.teamspace_id is null
               and (b.user_id = $2 or m.user_id = $2)
           ) as "owns!""#,
        org.as_uuid(),
        user.as_uuid()
    )
    .fetch_one(connection)
    .await?)
}

pub(crate) fn read(role: &str) -> Result<Role, StoreError> {
    role.parse().map_err(|error| StoreError::damaged("role binding", error))
}

/// Makes changes of roles and members in one organization follow each other, so that two owners cannot unmake one
/// another.
///
/// No lock on the key: every other row of the organization refers to that, and whoever adds to the audit log would wait
/// here with its head in hand, which we take last.
pub(crate) async fn lock(connection: &mut PgConnection, org: OrgId) -> Result<(), StoreError> {
    sqlx::query!("select id from organizations where id = $1 for no key update", org.as_uuid())
        .fetch_one(connection)
        .await?;
    Ok(())
}

async fn roles_of(
    connection: &mut PgConnection,
    org: OrgId,
    holder: RoleHolder,
) -> Result<Vec<Role>, StoreError> {
    let (user, group) = columns(holder);
    let texts = sqlx::query_scalar!(
        "select role from role_bindings
         where org_id = $1 and teamspace_id is null
           and user_id is not distinct from $2 and group_id is not distinct from $3",
        org.as_uuid(),
        user,
        group
    )
    .fetch_all(connection)
    .await?;
    let mut roles = texts.iter().map(|text| read(text)).collect::<Result<Vec<_>, _>>()?;
    roles.sort_unstable();
    Ok(roles)
}

async fn expect_holder(
    connection: &mut PgConnection,
    org: OrgId,
    holder: RoleHolder,
) -> Result<(), StoreError> {
    let (user, group) = columns(holder);
    let noun = if user.is_some() { "member" } else { "group" };
    let known = sqlx::query_scalar!(
        r#"select exists (select 1 from users where org_id = $1 and id = $2 and not is_service)
               or exists (select 1 from groups where org_id = $1 and id = $3) as "known!""#,
        org.as_uuid(),
        user,
        group
    )
    .fetch_one(connection)
    .await?;
    known.then_some(()).ok_or(StoreError::NotFound { noun })
}

const fn columns(holder: RoleHolder) -> (Option<Uuid>, Option<Uuid>) {
    match holder {
        RoleHolder::User(user) => (Some(user.as_uuid()), None),
        RoleHolder::Group(group) => (None, Some(group.as_uuid())),
    }
}
