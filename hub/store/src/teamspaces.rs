//! Teamspaces: their names, and the key that their cluster enrolled.

use fairlead_model::{OrgId, TeamspaceId, Thumbprint};
use hub_policy::{
    Permit, TeamspaceFacts, TeamspaceName,
    actions::{CreateTeamspace, DeleteTeamspace, ResetEnrolment, UnlockTeamspace},
};
use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use serde_json::json;

use crate::{
    JoinToken, Scoped, Store, StoreError, Unscoped,
    audit::{self, Entry},
    notify::{self, Noun},
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Teamspace {
    pub org: OrgId,
    pub id: TeamspaceId,
    pub name: TeamspaceName,
    pub created_at: Timestamp,
    pub enrolment: Option<Enrolment>,
    /// Why nothing may happen here until an admin has looked.
    pub lock_reason: Option<String>,
}

/// The key of the cluster behind a teamspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enrolment {
    /// Self-signed certificate of the teamspace key, DER.
    pub certificate: Vec<u8>,
    pub key: Thumbprint,
    pub cluster_uid: String,
}

impl Teamspace {
    #[must_use]
    pub fn facts(&self) -> TeamspaceFacts {
        TeamspaceFacts { org: self.org, id: self.id, name: self.name.clone() }
    }
}

struct Row {
    org_id: uuid::Uuid,
    id: uuid::Uuid,
    name: String,
    created_at: Timestamp,
    certificate: Option<Vec<u8>>,
    key_thumbprint: Option<Vec<u8>>,
    cluster_uid: Option<String>,
    lock_reason: Option<String>,
}

impl TryFrom<Row> for Teamspace {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let damaged = |what: &dyn ToString| StoreError::damaged("teamspace", what.to_string());
        let enrolment = match (row.certificate, row.key_thumbprint, row.cluster_uid) {
            (Some(certificate), Some(key), Some(cluster_uid)) => {
                let key = key.try_into().map_err(|_| damaged(&"its thumbprint is not 32 bytes"))?;
                Some(Enrolment { certificate, key: Thumbprint::from_bytes(key), cluster_uid })
            }
            _ => None,
        };
        Ok(Self {
            org: row.org_id.into(),
            id: row.id.into(),
            name: row.name.parse().map_err(|error| damaged(&error))?,
            created_at: row.created_at,
            enrolment,
            lock_reason: row.lock_reason,
        })
    }
}

impl Scoped<'_> {
    /// Lists the organization's teamspaces by name.
    pub async fn teamspaces(&self) -> Result<Vec<Teamspace>, StoreError> {
        let rows = sqlx::query_as!(
            Row,
            "select org_id, id, name, created_at, certificate, key_thumbprint, cluster_uid, lock_reason
             from teamspaces where org_id = $1 order by name",
            self.org.as_uuid()
        )
        .fetch_all(self.pool)
        .await?;
        rows.into_iter().map(Teamspace::try_from).collect()
    }

    pub async fn teamspace(&self, id: TeamspaceId) -> Result<Teamspace, StoreError> {
        sqlx::query_as!(
            Row,
            "select org_id, id, name, created_at, certificate, key_thumbprint, cluster_uid, lock_reason
             from teamspaces where org_id = $1 and id = $2",
            self.org.as_uuid(),
            id.as_uuid()
        )
        .fetch_optional(self.pool)
        .await?
        .ok_or(StoreError::NotFound { noun: "teamspace" })?
        .try_into()
    }
}

impl Unscoped<'_> {
    /// Finds the teamspace that enrolled this key, in whichever organization.
    pub async fn teamspace_by_key(
        &self,
        key: &Thumbprint,
    ) -> Result<Option<Teamspace>, StoreError> {
        let row = sqlx::query_as!(
            Row,
            "select org_id, id, name, created_at, certificate, key_thumbprint, cluster_uid, lock_reason
             from teamspaces where key_thumbprint = $1",
            &key.as_bytes()[..]
        )
        .fetch_optional(self.pool)
        .await?;
        row.map(Teamspace::try_from).transpose()
    }

    /// Stops everything in a teamspace whose key was seen in another cluster: one of the two is a copy. The token that
    /// the copy brought is spent; it may be another organization's.
    pub async fn lock_copied(
        &self,
        teamspace: &Teamspace,
        token: &JoinToken,
        cluster_uid: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        const REASON: &str = "its key was seen in another cluster";
        let mut tx = self.pool.begin().await?;
        sqlx::query!(
            "update join_tokens set used_at = $3 where org_id = $1 and id = $2 and used_at is null",
            token.org.as_uuid(),
            token.id.as_uuid(),
            now.to_sqlx() as _,
        )
        .execute(&mut *tx)
        .await?;
        let spent = Entry::by_agent(token.org, cluster_uid, "join_token.spent", token.id)
            .with(json!({ "reason": "it was used with a copied teamspace key" }));
        audit::record(&mut tx, spent, now).await?;
        sqlx::query!(
            "update teamspaces set locked_at = $3, lock_reason = $4
             where org_id = $1 and id = $2 and locked_at is null",
            teamspace.org.as_uuid(),
            teamspace.id.as_uuid(),
            now.to_sqlx() as _,
            REASON,
        )
        .execute(&mut *tx)
        .await?;
        let locked = Entry::by_agent(teamspace.org, cluster_uid, "teamspace.locked", teamspace.id)
            .with(json!({ "name": teamspace.name, "reason": REASON }));
        audit::record(&mut tx, locked, now).await?;
        notify::tell(&mut tx, teamspace.org, Noun::Teamspaces, teamspace.id.as_uuid()).await?;
        tx.commit().await?;
        Ok(())
    }
}

impl Store {
    pub async fn create_teamspace(
        &self,
        permit: &Permit<CreateTeamspace>,
        now: Timestamp,
    ) -> Result<Teamspace, StoreError> {
        let teamspace = Teamspace {
            org: permit.org(),
            id: TeamspaceId::generate(),
            name: permit.action().name.clone(),
            created_at: now,
            enrolment: None,
            lock_reason: None,
        };
        let mut tx = self.pool.begin().await?;
        sqlx::query!(
            "insert into teamspaces (org_id, id, name, created_at) values ($1, $2, $3, $4)",
            teamspace.org.as_uuid(),
            teamspace.id.as_uuid(),
            teamspace.name.as_str(),
            now.to_sqlx() as _,
        )
        .execute(&mut *tx)
        .await?;
        let entry = Entry::by(permit, "teamspace.created", teamspace.id)
            .with(json!({ "name": teamspace.name }));
        audit::record(&mut tx, entry, now).await?;
        notify::tell(&mut tx, teamspace.org, Noun::Teamspaces, teamspace.id.as_uuid()).await?;
        tx.commit().await?;
        Ok(teamspace)
    }

    /// Deletes a teamspace with its services and sessions. What was audited stays.
    pub async fn delete_teamspace(
        &self,
        permit: &Permit<DeleteTeamspace>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let TeamspaceFacts { org, id, name } = &permit.action().teamspace;
        let mut tx = self.pool.begin().await?;
        let deleted = sqlx::query!(
            "delete from teamspaces where org_id = $1 and id = $2",
            org.as_uuid(),
            id.as_uuid()
        )
        .execute(&mut *tx)
        .await?;
        if deleted.rows_affected() == 0 {
            return Err(StoreError::NotFound { noun: "teamspace" });
        }
        let entry = Entry::by(permit, "teamspace.deleted", id).with(json!({ "name": name }));
        audit::record(&mut tx, entry, now).await?;
        notify::tell(&mut tx, *org, Noun::Teamspaces, id.as_uuid()).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Lets a locked teamspace go on with the key that it has. No error where it was not locked.
    pub async fn unlock_teamspace(
        &self,
        permit: &Permit<UnlockTeamspace>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let TeamspaceFacts { org, id, name } = &permit.action().teamspace;
        let mut tx = self.pool.begin().await?;
        let unlocked = sqlx::query!(
            "update teamspaces set locked_at = null, lock_reason = null
             where org_id = $1 and id = $2 and locked_at is not null",
            org.as_uuid(),
            id.as_uuid()
        )
        .execute(&mut *tx)
        .await?;
        if unlocked.rows_affected() == 0 {
            return Ok(());
        }
        let entry = Entry::by(permit, "teamspace.unlocked", id).with(json!({ "name": name }));
        audit::record(&mut tx, entry, now).await?;
        notify::tell(&mut tx, *org, Noun::Teamspaces, id.as_uuid()).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Forgets the cluster of a teamspace with everything it reported, and the lock of its key. Another may join then.
    pub async fn reset_enrolment(
        &self,
        permit: &Permit<ResetEnrolment>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let TeamspaceFacts { org, id, name } = &permit.action().teamspace;
        let mut tx = self.pool.begin().await?;
        sqlx::query!(
            "update teamspaces
             set certificate = null, key_thumbprint = null, cluster_uid = null, enrolled_at = null,
                 locked_at = null, lock_reason = null
             where org_id = $1 and id = $2",
            org.as_uuid(),
            id.as_uuid()
        )
        .execute(&mut *tx)
        .await?;
        sqlx::query!(
            "delete from services where org_id = $1 and teamspace_id = $2",
            org.as_uuid(),
            id.as_uuid()
        )
        .execute(&mut *tx)
        .await?;
        sqlx::query!(
            "delete from replicas where org_id = $1 and teamspace_id = $2",
            org.as_uuid(),
            id.as_uuid()
        )
        .execute(&mut *tx)
        .await?;
        let entry =
            Entry::by(permit, "teamspace.enrolment_reset", id).with(json!({ "name": name }));
        audit::record(&mut tx, entry, now).await?;
        notify::tell(&mut tx, *org, Noun::Services, id.as_uuid()).await?;
        notify::tell(&mut tx, *org, Noun::Teamspaces, id.as_uuid()).await?;
        tx.commit().await?;
        Ok(())
    }
}
