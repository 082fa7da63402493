//! The issuers at which members of an organization sign in.

use fairlead_model::OrgId;
use hub_policy::{Permit, actions::ManageOrganization};
use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    Scoped, Store, StoreError, Unscoped,
    audit::{self, Entry},
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
    /// Lists the connections at which this address may sign in.
    pub async fn oidc_connections_of_domain(
        &self,
        domain: &str,
    ) -> Result<Vec<OidcConnection>, StoreError> {
        Ok(sqlx::query_as!(
            OidcConnection,
            "select org_id, id, issuer, client_id, sealed_client_secret, groups_claim, scopes,
                    email_domains, created_at
             from oidc_connections where email_domains @> array[$1::text]
             order by created_at, id",
            domain
        )
        .fetch_all(self.pool)
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
    pub async fn change_oidc_connection(
        &self,
        permit: &Permit<ManageOrganization>,
        changed: &OidcConnection,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut tx = self.pool.begin().await?;
        let touched = sqlx::query!(
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
        if touched.rows_affected() == 0 {
            return Err(StoreError::NotFound { noun: "connection" });
        }
        let entry = Entry::by(permit, "connection.changed", changed.id)
            .with(serde_json::json!({ "issuer": changed.issuer, "client_id": changed.client_id }));
        audit::record(&mut tx, entry, now).await?;
        Ok(tx.commit().await?)
    }
}

pub(crate) async fn insert(
    connection: &mut PgConnection,
    new: &OidcConnection,
) -> Result<(), StoreError> {
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
