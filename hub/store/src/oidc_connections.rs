//! The issuers at which members of an organization sign in.

use fairlead_model::{OrgId, UserId};
use hub_policy::{Permit, actions::ManageOrganization};
use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    Bearer, FamilyEnd, Scoped, Store, StoreError, Unscoped,
    audit::{self, Entry},
    authorization_codes, device_codes,
    notify::{self, Noun},
    role_bindings, token_families,
};

/// One client registration at one issuer.
#[derive(Clone, Debug)]
pub struct OidcConnection {
    pub org_id: OrgId,
    pub id: Uuid,
    pub issuer: String,
    pub client_id: String,
    pub sealed_client_secret: Vec<u8>,
    pub groups_claim: String,
    pub scopes: Vec<String>,
    /// Addresses of these domains count as verified, and lead here at sign-in.
    pub email_domains: Vec<String>,
    pub created_at: Timestamp,
}

impl Scoped<'_> {
    pub async fn oidc_connections(&self) -> Result<Vec<OidcConnection>, StoreError> {
        Ok(sqlx::query_as!(
            OidcConnection,
            "select org_id, id, issuer, client_id, sealed_client_secret, groups_claim, scopes,
                    email_domains, created_at
             from oidc_connections where org_id = $1 order by created_at, id",
            self.org.as_uuid()
        )
        .fetch_all(self.pool)
        .await?)
    }

    pub async fn oidc_connection(&self, id: Uuid) -> Result<Option<OidcConnection>, StoreError> {
        Ok(sqlx::query_as!(
            OidcConnection,
            "select org_id, id, issuer, client_id, sealed_client_secret, groups_claim, scopes,
                    email_domains, created_at
             from oidc_connections where org_id = $1 and id = $2",
            self.org.as_uuid(),
            id
        )
        .fetch_optional(self.pool)
        .await?)
    }
}

impl Unscoped<'_> {
    /// Finds the connection to which an address of this domain leads.
    pub async fn oidc_connection_of_domain(
        &self,
        domain: &str,
    ) -> Result<Option<OidcConnection>, StoreError> {
        Ok(sqlx::query_as!(
            OidcConnection,
            "select org_id, id, issuer, client_id, sealed_client_secret, groups_claim, scopes,
                    email_domains, created_at
             from oidc_connections where email_domains @> array[$1::text]
             order by created_at, id limit 1",
            domain
        )
        .fetch_optional(self.pool)
        .await?)
    }

    /// Lists the first `limit` connections of the hub: enough to see whether there is a choice.
    pub async fn first_oidc_connections(
        &self,
        limit: i64,
    ) -> Result<Vec<OidcConnection>, StoreError> {
        Ok(sqlx::query_as!(
            OidcConnection,
            "select org_id, id, issuer, client_id, sealed_client_secret, groups_claim, scopes,
                    email_domains, created_at
             from oidc_connections order by created_at, id limit $1",
            limit
        )
        .fetch_all(self.pool)
        .await?)
    }
}

impl Store {
    /// Replaces what a connection says about its issuer; its id, and so its users, stay.
    ///
    /// A secret is replaced where the sealed one differs: sealing never gives the same bytes twice.
    pub async fn change_oidc_connection(
        &self,
        permit: &Permit<ManageOrganization>,
        changed: &OidcConnection,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut tx = self.pool.begin().await?;
        lead_one_way(&mut tx, changed).await?;
        let before = sqlx::query_as!(
            OidcConnection,
            "select org_id, id, issuer, client_id, sealed_client_secret, groups_claim, scopes,
                    email_domains, created_at
             from oidc_connections where org_id = $1 and id = $2 for update",
            permit.org().as_uuid(),
            changed.id
        )
        .fetch_optional(&mut *tx)
        .await?
        .ok_or(StoreError::NotFound { noun: "connection" })?;
        sqlx::query!(
            "update oidc_connections
             set issuer = $3, client_id = $4, sealed_client_secret = $5, groups_claim = $6,
                 scopes = $7, email_domains = $8
             where org_id = $1 and id = $2",
            permit.org().as_uuid(),
            changed.id,
            changed.issuer,
            changed.client_id,
            changed.sealed_client_secret,
            changed.groups_claim,
            &changed.scopes,
            &changed.email_domains
        )
        .execute(&mut *tx)
        .await?;
        let entry = Entry::by(permit, "connection.changed", changed.id)
            .with(what_changed(&before, changed));
        audit::record(&mut tx, entry, now).await?;
        Ok(tx.commit().await?)
    }

    /// Adds a connection by which members may sign in besides those there are.
    pub async fn add_oidc_connection(
        &self,
        permit: &Permit<ManageOrganization>,
        new: &OidcConnection,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut tx = self.pool.begin().await?;
        insert(&mut tx, new).await?;
        let entry = Entry::by(permit, "connection.added", new.id).with(json!({
            "issuer": new.issuer, "client_id": new.client_id, "groups_claim": new.groups_claim,
            "scopes": new.scopes, "email_domains": new.email_domains,
        }));
        audit::record(&mut tx, entry, now).await?;
        Ok(tx.commit().await?)
    }

    /// Removes a connection; never the last one, and never the one by which whoever asks has signed in.
    ///
    /// Its members lose their sign-ins. They stay who they are: whoever comes with the same verified address by
    /// another connection takes their place.
    pub async fn remove_oidc_connection(
        &self,
        permit: &Permit<ManageOrganization>,
        id: Uuid,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let org = permit.org();
        let mut tx = self.pool.begin().await?;
        role_bindings::lock(&mut tx, org).await?;
        let issuer = sqlx::query_scalar!(
            "select issuer from oidc_connections where org_id = $1 and id = $2",
            org.as_uuid(),
            id
        )
        .fetch_optional(&mut *tx)
        .await?
        .ok_or(StoreError::NotFound { noun: "connection" })?;
        let others = sqlx::query_scalar!(
            r#"select exists (select 1 from oidc_connections where org_id = $1 and id <> $2)
               as "others!""#,
            org.as_uuid(),
            id
        )
        .fetch_one(&mut *tx)
        .await?;
        if !others {
            return Err(StoreError::Conflict { constraint: LAST_CONNECTION.to_owned() });
        }
        let members = detach(&mut tx, org, id, now).await?;
        if members.contains(&permit.caller().actor.user()) {
            return Err(StoreError::Conflict { constraint: OWN_CONNECTION.to_owned() });
        }
        sqlx::query!(
            "delete from oidc_connections where org_id = $1 and id = $2",
            org.as_uuid(),
            id
        )
        .execute(&mut *tx)
        .await?;
        let entry = Entry::by(permit, "connection.removed", id)
            .with(json!({ "issuer": issuer, "members": members.len() }));
        audit::record(&mut tx, entry, now).await?;
        notify::tell(&mut tx, org, Noun::Members, org.as_uuid()).await?;
        Ok(tx.commit().await?)
    }
}

/// Unties the members from a connection that goes, and ends what they signed in to by it.
async fn detach(
    connection: &mut PgConnection,
    org: OrgId,
    id: Uuid,
    now: Timestamp,
) -> Result<Vec<UserId>, StoreError> {
    let members = sqlx::query_scalar!(
        "update users set connection_id = null, subject = null
         where org_id = $1 and connection_id = $2 returning id",
        org.as_uuid(),
        id
    )
    .fetch_all(&mut *connection)
    .await?;
    sqlx::query!(
        "delete from web_sessions where org_id = $1 and user_id = any($2)",
        org.as_uuid(),
        &members
    )
    .execute(&mut *connection)
    .await?;
    let members: Vec<UserId> = members.into_iter().map(UserId::from).collect();
    for user in &members {
        let bearer = Bearer { org, user: *user };
        authorization_codes::forget_codes(connection, bearer).await?;
        device_codes::forget_device_codes(connection, bearer).await?;
        token_families::end_families(connection, bearer, None, FamilyEnd::ConnectionRemoved, now)
            .await?;
    }
    Ok(members)
}

/// Says for an auditor what a change changed. Never the secret.
fn what_changed(before: &OidcConnection, after: &OidcConnection) -> serde_json::Value {
    let mut changed = serde_json::Map::new();
    let mut compare = |name: &str, before: serde_json::Value, after: serde_json::Value| {
        if before != after {
            changed.insert(name.to_owned(), json!({ "before": before, "after": after }));
        }
    };
    compare("issuer", json!(before.issuer), json!(after.issuer));
    compare("client_id", json!(before.client_id), json!(after.client_id));
    compare("groups_claim", json!(before.groups_claim), json!(after.groups_claim));
    compare("scopes", json!(before.scopes), json!(after.scopes));
    compare("email_domains", json!(before.email_domains), json!(after.email_domains));
    if before.sealed_client_secret != after.sealed_client_secret {
        changed.insert("client_secret".to_owned(), json!("replaced"));
    }
    changed.into()
}

/// Another connection of this hub lists the domain already.
pub const DOMAIN_TAKEN: &str = "oidc_connections_one_per_domain";
/// Where there are several connections the domain of an address leads to one of them: each needs one.
pub const DOMAIN_NEEDED: &str = "oidc_connections_need_a_domain";
/// The other connection, which was alone until now, lists no domain.
pub const OTHER_NEEDS_DOMAIN: &str = "oidc_connections_other_needs_a_domain";
pub const LAST_CONNECTION: &str = "oidc_connections_last";
pub const OWN_CONNECTION: &str = "oidc_connections_own";

/// Refuses a connection to which an address would not lead, or not alone: on the whole hub, because nobody's
/// organization is known before they have signed in. Returns whether nobody is led to one of the others.
async fn lead_one_way(
    connection: &mut PgConnection,
    new: &OidcConnection,
) -> Result<bool, StoreError> {
    let refuse = |constraint: &str| Err(StoreError::Conflict { constraint: constraint.to_owned() });
    // Whoever else changes connections waits: two cannot take one domain at the same moment.
    sqlx::query!("select pg_advisory_xact_lock($1)", DOMAINS_LOCK)
        .execute(&mut *connection)
        .await?;
    let others = sqlx::query!(
        r#"select count(*) as "others!",
                  coalesce(bool_or(email_domains && $2), false) as "taken!",
                  coalesce(bool_or(cardinality(email_domains) = 0), false) as "without!"
           from oidc_connections where id <> $1"#,
        new.id,
        &new.email_domains
    )
    .fetch_one(connection)
    .await?;
    if others.taken {
        return refuse(DOMAIN_TAKEN);
    }
    if others.others > 0 && new.email_domains.is_empty() {
        return refuse(DOMAIN_NEEDED);
    }
    Ok(others.without)
}

/// Any number that no other lock of ours has.
const DOMAINS_LOCK: i64 = 0x6661_6972_646f_6d73;

pub(crate) async fn insert(
    connection: &mut PgConnection,
    new: &OidcConnection,
) -> Result<(), StoreError> {
    // Only where one comes to them: old ones of which several list no domain get theirs one after the other.
    if lead_one_way(connection, new).await? {
        return Err(StoreError::Conflict { constraint: OTHER_NEEDS_DOMAIN.to_owned() });
    }
    sqlx::query!(
        "insert into oidc_connections (org_id, id, issuer, client_id, sealed_client_secret,
                                       groups_claim, scopes, email_domains, created_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        new.org_id.as_uuid(),
        new.id,
        new.issuer,
        new.client_id,
        new.sealed_client_secret,
        new.groups_claim,
        &new.scopes,
        &new.email_domains,
        new.created_at.to_sqlx()
    )
    .execute(connection)
    .await?;
    Ok(())
}
