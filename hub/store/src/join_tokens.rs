//! Join tokens, and the enrolment of a cluster that one of them pays for.

use fairlead_model::{JoinTokenId, OrgId, TeamspaceId, Token};
use hub_policy::{
    Permit,
    actions::{CreateJoinToken, DeleteJoinToken, ListJoinTokens},
};
use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use serde_json::json;

use crate::{
    Enrolment, Store, StoreError, Unscoped,
    audit::{self, Entry},
    notify::{self, Noun},
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinToken {
    pub org: OrgId,
    pub id: JoinTokenId,
    pub teamspace: TeamspaceId,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
    pub used_at: Option<Timestamp>,
}

struct Row {
    org_id: uuid::Uuid,
    id: uuid::Uuid,
    teamspace_id: uuid::Uuid,
    created_at: Timestamp,
    expires_at: Timestamp,
    used_at: Option<jiff_sqlx::Timestamp>,
}

impl From<Row> for JoinToken {
    fn from(row: Row) -> Self {
        Self {
            org: row.org_id.into(),
            id: row.id.into(),
            teamspace: row.teamspace_id.into(),
            created_at: row.created_at,
            expires_at: row.expires_at,
            used_at: row.used_at.map(Into::into),
        }
    }
}

impl Store {
    /// Remembers a new token by its hash.
    pub async fn create_join_token(
        &self,
        permit: &Permit<CreateJoinToken>,
        token: &Token,
        expires_at: Timestamp,
        now: Timestamp,
    ) -> Result<JoinToken, StoreError> {
        let teamspace = &permit.action().teamspace;
        let id = JoinTokenId::generate();
        let mut tx = self.pool.begin().await?;
        sqlx::query!(
            "insert into join_tokens (token_hash, org_id, id, teamspace_id, created_by, created_at, expires_at)
             values ($1, $2, $3, $4, $5, $6, $7)",
            &token.hash()[..],
            permit.org().as_uuid(),
            id.as_uuid(),
            teamspace.id.as_uuid(),
            permit.caller().actor.user().as_uuid(),
            now.to_sqlx() as _,
            expires_at.to_sqlx() as _,
        )
        .execute(&mut *tx)
        .await?;
        let entry = Entry::by(permit, "join_token.created", id)
            .with(json!({ "teamspace": teamspace.name, "expires_at": expires_at }));
        audit::record(&mut tx, entry, now).await?;
        tx.commit().await?;
        Ok(JoinToken {
            org: permit.org(),
            id,
            teamspace: teamspace.id,
            created_at: now,
            expires_at,
            used_at: None,
        })
    }

    /// Lists a teamspace's tokens that can still be used.
    pub async fn join_tokens(
        &self,
        permit: &Permit<ListJoinTokens>,
        now: Timestamp,
    ) -> Result<Vec<JoinToken>, StoreError> {
        let rows = sqlx::query_as!(
            Row,
            "select org_id, id, teamspace_id, created_at, expires_at, used_at from join_tokens
             where org_id = $1 and teamspace_id = $2 and used_at is null and expires_at > $3
             order by created_at",
            permit.org().as_uuid(),
            permit.action().teamspace.id.as_uuid(),
            now.to_sqlx() as _,
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.into_iter().map(JoinToken::from).collect())
    }

    pub async fn delete_join_token(
        &self,
        permit: &Permit<DeleteJoinToken>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut tx = self.pool.begin().await?;
        let deleted = sqlx::query!(
            "delete from join_tokens where org_id = $1 and id = $2",
            permit.org().as_uuid(),
            permit.action().id.as_uuid()
        )
        .execute(&mut *tx)
        .await?;
        if deleted.rows_affected() == 0 {
            return Err(StoreError::NotFound { noun: "join token" });
        }
        let entry = Entry::by(permit, "join_token.deleted", permit.action().id);
        audit::record(&mut tx, entry, now).await?;
        tx.commit().await?;
        Ok(())
    }
}

impl crate::Scoped<'_> {
    pub async fn join_token(&self, id: JoinTokenId) -> Result<JoinToken, StoreError> {
        let row = sqlx::query_as!(
            Row,
            "select org_id, id, teamspace_id, created_at, expires_at, used_at from join_tokens
             where org_id = $1 and id = $2",
            self.org.as_uuid(),
            id.as_uuid()
        )
        .fetch_optional(self.pool)
        .await?;
        row.map(JoinToken::from).ok_or(StoreError::NotFound { noun: "join token" })
    }
}

impl Unscoped<'_> {
    /// Finds a token by its hash, used or not: the caller says which of the two it is.
    pub async fn join_token_by_secret(
        &self,
        token: &Token,
    ) -> Result<Option<JoinToken>, StoreError> {
        let row = sqlx::query_as!(
            Row,
            "select org_id, id, teamspace_id, created_at, expires_at, used_at from join_tokens
             where token_hash = $1",
            &token.hash()[..]
        )
        .fetch_optional(self.pool)
        .await?;
        Ok(row.map(JoinToken::from))
    }

    /// Spends the token and enrols the key in one step; false, and nothing is spent, when somebody else was first: by this
    /// token or by another one of the teamspace, or the teamspace was locked.
    pub async fn enrol(
        &self,
        token: &JoinToken,
        enrolment: &Enrolment,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let mut tx = self.pool.begin().await?;
        let spent = sqlx::query!(
            "update join_tokens set used_at = $3 where org_id = $1 and id = $2 and used_at is null",
            token.org.as_uuid(),
            token.id.as_uuid(),
            now.to_sqlx() as _,
        )
        .execute(&mut *tx)
        .await?;
        if spent.rows_affected() == 0 {
            return Ok(false);
        }
        let enrolled = sqlx::query!(
            "update teamspaces set certificate = $3, key_thumbprint = $4, cluster_uid = $5, enrolled_at = $6
             where org_id = $1 and id = $2 and locked_at is null
               and (key_thumbprint is null or (key_thumbprint = $4 and cluster_uid = $5))",
            token.org.as_uuid(),
            token.teamspace.as_uuid(),
            enrolment.certificate,
            &enrolment.key.as_bytes()[..],
            enrolment.cluster_uid,
            now.to_sqlx() as _,
        )
        .execute(&mut *tx)
        .await?;
        if enrolled.rows_affected() == 0 {
            return Ok(false);
        }
        let entry = Entry::by_agent(
            token.org,
            &enrolment.cluster_uid,
            "teamspace.enrolled",
            token.teamspace,
        )
        .with(json!({ "key": enrolment.key, "join_token": token.id }));
        audit::record(&mut tx, entry, now).await?;
        notify::tell(&mut tx, token.org, Noun::Teamspaces, token.teamspace.as_uuid()).await?;
        tx.commit().await?;
        Ok(true)
    }
}
