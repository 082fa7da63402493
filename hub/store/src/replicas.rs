//! Agent replicas: which are connected, since when.

use fairlead_model::{OrgId, TeamspaceId};
use jiff::Timestamp;
use jiff_sqlx::ToSqlx;

use crate::{
    Scoped, StoreError, Unscoped,
    notify::{self, Noun},
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica {
    pub teamspace: TeamspaceId,
    pub name: String,
    pub version: String,
    pub connected_at: Timestamp,
}

impl Scoped<'_> {
    /// Lists the replicas whose link is up, over all teamspaces.
    pub async fn replicas(&self) -> Result<Vec<Replica>, StoreError> {
        Ok(sqlx::query_as!(
            Replica,
            "select teamspace_id as teamspace, name, version, connected_at from replicas
             where org_id = $1 and disconnected_at is null order by teamspace_id, name",
            self.org.as_uuid()
        )
        .fetch_all(self.pool)
        .await?)
    }
}

impl Unscoped<'_> {
    pub async fn replica_connected(&self, org: OrgId, replica: &Replica) -> Result<(), StoreError> {
        let mut tx = self.pool.begin().await?;
        sqlx::query!(
            "insert into replicas (org_id, teamspace_id, name, version, connected_at)
             values ($1, $2, $3, $4, $5)
             on conflict (org_id, teamspace_id, name)
             do update set version = $4, connected_at = $5, disconnected_at = null",
            org.as_uuid(),
            replica.teamspace.as_uuid(),
            replica.name,
            replica.version,
            replica.connected_at.to_sqlx() as _,
        )
        .execute(&mut *tx)
        .await?;
        notify::tell(&mut tx, org, Noun::Teamspaces, replica.teamspace.as_uuid()).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Marks the link that was made at `replica.connected_at` as lost; a newer one stays.
    pub async fn replica_disconnected(
        &self,
        org: OrgId,
        replica: &Replica,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut tx = self.pool.begin().await?;
        sqlx::query!(
            "update replicas set disconnected_at = $5
             where org_id = $1 and teamspace_id = $2 and name = $3 and connected_at = $4",
            org.as_uuid(),
            replica.teamspace.as_uuid(),
            replica.name,
            replica.connected_at.to_sqlx() as _,
            now.to_sqlx() as _,
        )
        .execute(&mut *tx)
        .await?;
        notify::tell(&mut tx, org, Noun::Teamspaces, replica.teamspace.as_uuid()).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Marks every link as lost: what a hub that starts knows about the links of its predecessor.
    pub async fn forget_replicas(&self, now: Timestamp) -> Result<(), StoreError> {
        sqlx::query!(
            "update replicas set disconnected_at = $1 where disconnected_at is null",
            now.to_sqlx() as _
        )
        .execute(self.pool)
        .await?;
        Ok(())
    }
}
