//! One-time links of the operator, and the founding of an organization through one.

use fairlead_model::{GroupId, timers::SETUP_LINK_LIFE};
use hub_policy::{Role, actions::RoleHolder};
use jiff::Timestamp;
use jiff_sqlx::ToSqlx;

use crate::{
    Bearer, OidcConnection, Organization, SealedKey, StoreError, Unscoped,
    audit::{self, Entry},
    oidc_connections, organization_keys, role_bindings,
};

/// Everything a new organization begins with.
#[derive(Clone, Debug)]
pub struct Founding {
    pub organization: Organization,
    /// Becomes owner at the first sign-in. Lower case.
    pub owner_email: String,
    pub keys: Vec<SealedKey>,
    pub connection: OidcConnection,
    /// Which roles the groups of the issuer give.
    pub group_roles: Vec<(String, Role)>,
}

/// What a link that counts is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkPurpose {
    Setup,
    Recover(Bearer),
}

/// A link that was neither used nor has expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetupLink {
    pub purpose: LinkPurpose,
    pub expires_at: Timestamp,
}

impl Unscoped<'_> {
    pub async fn keep_setup_link(
        &self,
        token_hash: &[u8; 32],
        purpose: LinkPurpose,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let (org, user) = match purpose {
            LinkPurpose::Setup => (None, None),
            LinkPurpose::Recover(Bearer { org, user }) => {
                (Some(org.as_uuid()), Some(user.as_uuid()))
            }
        };
        sqlx::query!(
            "insert into setup_links (token_hash, org_id, user_id, expires_at)
             values ($1, $2, $3, $4)",
            token_hash,
            org,
            user,
            (now + SETUP_LINK_LIFE).to_sqlx()
        )
        .execute(self.pool)
        .await?;
        Ok(())
    }

    /// Returns a link that counts.
    pub async fn setup_link(
        &self,
        token_hash: &[u8; 32],
        now: Timestamp,
    ) -> Result<Option<SetupLink>, StoreError> {
        let row = sqlx::query!(
            "select org_id, user_id, expires_at from setup_links
             where token_hash = $1 and used_at is null and expires_at > $2",
            token_hash,
            now.to_sqlx()
        )
        .fetch_optional(self.pool)
        .await?;
        Ok(row.map(|row| SetupLink {
            purpose: purpose(row.org_id, row.user_id),
            expires_at: row.expires_at.into(),
        }))
    }

    /// Spends a recover link.
    pub async fn spend_recover_link(
        &self,
        token_hash: &[u8; 32],
        now: Timestamp,
    ) -> Result<Option<Bearer>, StoreError> {
        let mut tx = self.pool.begin().await?;
        let row = sqlx::query!(
            "update setup_links set used_at = $2
             where token_hash = $1 and used_at is null and expires_at > $2 and org_id is not null
             returning org_id, user_id",
            token_hash,
            now.to_sqlx()
        )
        .fetch_optional(&mut *tx)
        .await?;
        let Some(LinkPurpose::Recover(bearer)) = row.map(|row| purpose(row.org_id, row.user_id))
        else {
            return Ok(None);
        };
        let entry = Entry::by_operator(bearer.org, "recover_link.used", bearer.user);
        audit::record(&mut tx, entry, now).await?;
        tx.commit().await?;
        Ok(Some(bearer))
    }

    /// Spends a set-up link and founds the organization, both or neither.
    pub async fn found(
        &self,
        link_hash: &[u8; 32],
        founding: &Founding,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut tx = self.pool.begin().await?;
        let spent = sqlx::query!(
            "update setup_links set used_at = $2
             where token_hash = $1 and used_at is null and expires_at > $2 and org_id is null",
            link_hash,
            now.to_sqlx()
        )
        .execute(&mut *tx)
        .await?;
        if spent.rows_affected() == 0 {
            return Err(StoreError::NotFound { noun: "setup link" });
        }
        let Organization { id: org, slug, name, created_at } = &founding.organization;
        sqlx::query!(
            "insert into organizations (id, slug, name, owner_email, created_at)
             values ($1, $2, $3, $4, $5)",
            org.as_uuid(),
            slug,
            name,
            founding.owner_email,
            created_at.to_sqlx()
        )
        .execute(&mut *tx)
        .await?;
        for key in &founding.keys {
            organization_keys::insert(&mut tx, *org, key, now).await?;
        }
        oidc_connections::insert(&mut tx, &founding.connection).await?;
        for (group, role) in &founding.group_roles {
            let group = ensure_group(&mut tx, &founding.organization, group).await?;
            role_bindings::bind(&mut tx, *org, RoleHolder::Group(group), *role, None, now).await?;
        }
        let entry = Entry::by_operator(*org, "organization.founded", slug).with(
            serde_json::json!({ "owner": founding.owner_email, "groups": founding.group_roles }),
        );
        audit::record(&mut tx, entry, now).await?;
        Ok(tx.commit().await?)
    }
}

fn purpose(org: Option<uuid::Uuid>, user: Option<uuid::Uuid>) -> LinkPurpose {
    match (org, user) {
        (Some(org), Some(user)) => {
            LinkPurpose::Recover(Bearer { org: org.into(), user: user.into() })
        }
        _ => LinkPurpose::Setup,
    }
}

async fn ensure_group(
    connection: &mut sqlx::PgConnection,
    organization: &Organization,
    name: &str,
) -> Result<GroupId, StoreError> {
    // The update changes nothing; it makes `returning` answer for a group that is there already.
    let id = sqlx::query_scalar!(
        "insert into groups (org_id, id, name, created_at) values ($1, $2, $3, $4)
         on conflict (org_id, name) do update set name = excluded.name returning id",
        organization.id.as_uuid(),
        GroupId::generate().as_uuid(),
        name,
        organization.created_at.to_sqlx()
    )
    .fetch_one(connection)
    .await?;
    Ok(id.into())
}
