//! Members and groups as an organization sees them.

use std::collections::BTreeMap;

use fairlead_model::{GroupId, UserId};
use hub_policy::{
    Permit, Role,
    actions::{RemoveMember, RestoreMember, RoleHolder},
};
use jiff::Timestamp;

use crate::{
    Bearer, Scoped, Store, StoreError,
    audit::{self, Entry},
    notify::{self, Noun},
    role_bindings, users,
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub id: UserId,
    pub email: String,
    pub name: String,
    /// Bound to the member itself, everywhere in the organization.
    pub roles: Vec<Role>,
    /// With what the groups give.
    pub effective_roles: Vec<Role>,
    pub groups: Vec<String>,
    pub last_signed_in_at: Option<Timestamp>,
    pub disabled: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    pub id: GroupId,
    pub name: String,
    pub members: i64,
    pub roles: Vec<Role>,
}

impl Scoped<'_> {
    pub async fn members(&self) -> Result<Vec<Member>, StoreError> {
        let rows = sqlx::query!(
            r#"select u.id, u.email, u.name, u.last_signed_in_at, u.disabled_at,
                      array(select g.name from group_members m
                            join groups g on g.org_id = m.org_id and g.id = m.group_id
                            where m.org_id = u.org_id and m.user_id = u.id
                            order by g.name) as "groups!"
               from users u where u.org_id = $1 and not u.is_service order by u.email, u.id"#,
            self.org.as_uuid()
        )
        .fetch_all(self.pool)
        .await?;
        let bound = self.roles_everywhere().await?;
        Ok(rows
            .into_iter()
            .map(|row| {
                let id = UserId::from(row.id);
                Member {
                    id,
                    email: row.email,
                    name: row.name,
                    roles: bound.of_users.get(&id).cloned().unwrap_or_default(),
                    effective_roles: bound.effective(id, &row.groups),
                    groups: row.groups,
                    last_signed_in_at: row.last_signed_in_at.map(Into::into),
                    disabled: row.disabled_at.is_some(),
                }
            })
            .collect())
    }

    pub async fn groups(&self) -> Result<Vec<Group>, StoreError> {
        let rows = sqlx::query!(
            r#"select g.id, g.name,
                      (select count(*) from group_members m
                       where m.org_id = g.org_id and m.group_id = g.id) as "members!"
               from groups g where g.org_id = $1 order by g.name"#,
            self.org.as_uuid()
        )
        .fetch_all(self.pool)
        .await?;
        let bound = self.roles_everywhere().await?;
        Ok(rows
            .into_iter()
            .map(|row| Group {
                id: row.id.into(),
                roles: bound.of_groups.get(&row.name).cloned().unwrap_or_default(),
                name: row.name,
                members: row.members,
            })
            .collect())
    }

    /// Says whether a member, removed or not, is an owner.
    pub async fn is_owner(&self, user: UserId) -> Result<bool, StoreError> {
        self.roles_of(RoleHolder::User(user)).await?;
        let mut connection = self.pool.acquire().await?;
        role_bindings::owns(&mut connection, self.org, user).await
    }

    async fn roles_everywhere(&self) -> Result<Bound, StoreError> {
        let rows = sqlx::query!(
            r#"select b.role, b.user_id, g.name as "group_name?" from role_bindings b
               left join groups g on g.org_id = b.org_id and g.id = b.group_id
               where b.org_id = $1 and b.teamspace_id is null order by b.role"#,
            self.org.as_uuid()
        )
        .fetch_all(self.pool)
        .await?;
        let mut bound = Bound::default();
        for row in rows {
            let role = role_bindings::read(&row.role)?;
            match (row.user_id, row.group_name) {
                (Some(user), _) => bound.of_users.entry(user.into()).or_default().push(role),
                (None, Some(group)) => bound.of_groups.entry(group).or_default().push(role),
                (None, None) => {
                    return Err(StoreError::damaged("role binding", "nobody holds it"));
                }
            }
        }
        Ok(bound)
    }
}

impl Store {
    /// Shuts a member out and ends everything with which they could act.
    pub async fn remove_member(
        &self,
        permit: &Permit<RemoveMember>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let RemoveMember { user, is_owner } = *permit.action();
        let mut tx = self.pool.begin().await?;
        role_bindings::lock(&mut tx, permit.org()).await?;
        role_bindings::expect_owner(&mut tx, permit.org(), user, is_owner).await?;
        users::shut_out(&mut tx, Bearer { org: permit.org(), user }, now).await?;
        role_bindings::keep_an_owner(&mut tx, permit.org()).await?;
        audit::record(&mut tx, Entry::by(permit, "member.removed", user), now).await?;
        notify::tell(&mut tx, permit.org(), Noun::Members, user.as_uuid()).await?;
        Ok(tx.commit().await?)
    }

    /// Lets a removed member in again, with the roles they had. No error for one who was not removed.
    pub async fn restore_member(
        &self,
        permit: &Permit<RestoreMember>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let RestoreMember { user, is_owner } = *permit.action();
        let mut tx = self.pool.begin().await?;
        role_bindings::lock(&mut tx, permit.org()).await?;
        role_bindings::expect_owner(&mut tx, permit.org(), user, is_owner).await?;
        if !users::let_in(&mut tx, Bearer { org: permit.org(), user }).await? {
            return Ok(());
        }
        audit::record(&mut tx, Entry::by(permit, "member.restored", user), now).await?;
        notify::tell(&mut tx, permit.org(), Noun::Members, user.as_uuid()).await?;
        Ok(tx.commit().await?)
    }
}

#[derive(Default)]
struct Bound {
    of_users: BTreeMap<UserId, Vec<Role>>,
    of_groups: BTreeMap<String, Vec<Role>>,
}

impl Bound {
    fn effective(&self, user: UserId, groups: &[String]) -> Vec<Role> {
        let from_groups = groups.iter().filter_map(|group| self.of_groups.get(group));
        let mut roles: Vec<Role> =
            self.of_users.get(&user).into_iter().chain(from_groups).flatten().copied().collect();
        roles.sort_unstable();
        roles.dedup();
        roles
    }
}
