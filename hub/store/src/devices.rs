//! Devices: one user's key on one laptop. A removed device keeps its row, for the sessions that name it.

use fairlead_model::{DeviceId, Thumbprint, UserId};
use hub_policy::{Caller, Permit, actions::RemoveDevice};
use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use uuid::Uuid;

use crate::{
    Bearer, FamilyEnd, Scoped, Store, StoreError,
    audit::{self, Entry},
    notify::{self, Noun},
    token_families,
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    pub id: DeviceId,
    pub user_id: UserId,
    pub name: String,
    pub thumbprint: Thumbprint,
    /// The same key as RFC 7638 names it: what ties it to its refresh tokens.
    pub key_jkt: String,
    pub created_at: Timestamp,
    pub certificate_expires_at: Timestamp,
}

/// A key that asks for a certificate.
#[derive(Clone, Debug)]
pub struct PresentedKey {
    pub name: String,
    pub thumbprint: Thumbprint,
    pub key_jkt: String,
    pub certificate_expires_at: Timestamp,
}

impl Scoped<'_> {
    pub async fn devices_of(&self, user: UserId) -> Result<Vec<Device>, StoreError> {
        sqlx::query_as!(
            Row,
            "select id, user_id, name, thumbprint, key_jkt, created_at, certificate_expires_at
             from devices where org_id = $1 and user_id = $2 and removed_at is null
             order by created_at, id",
            self.org.as_uuid(),
            user.as_uuid()
        )
        .fetch_all(self.pool)
        .await?
        .into_iter()
        .map(Device::try_from)
        .collect()
    }

    /// Returns a device that has not been removed.
    pub async fn device(&self, id: DeviceId) -> Result<Option<Device>, StoreError> {
        sqlx::query_as!(
            Row,
            "select id, user_id, name, thumbprint, key_jkt, created_at, certificate_expires_at
             from devices where org_id = $1 and id = $2 and removed_at is null",
            self.org.as_uuid(),
            id.as_uuid()
        )
        .fetch_optional(self.pool)
        .await?
        .map(Device::try_from)
        .transpose()
    }
}

impl Store {
    /// Remembers the caller's key, or that it was given a new certificate.
    ///
    /// This takes no permit: whoever is signed in has a laptop. A key that is another user's is a conflict.
    pub async fn keep_device(
        &self,
        caller: &Caller,
        key: &PresentedKey,
        now: Timestamp,
    ) -> Result<DeviceId, StoreError> {
        let (org, user) = (caller.org.as_uuid(), caller.actor.user().as_uuid());
        let mut tx = self.pool.begin().await?;
        let known = sqlx::query_scalar!(
            "update devices set name = $4, certificate_expires_at = $5
             where org_id = $1 and user_id = $2 and thumbprint = $3 and removed_at is null
             returning id",
            org,
            user,
            key.thumbprint.as_bytes(),
            key.name,
            key.certificate_expires_at.to_sqlx()
        )
        .fetch_optional(&mut *tx)
        .await?;
        if let Some(id) = known {
            tx.commit().await?;
            return Ok(id.into());
        }
        let id = DeviceId::generate();
        sqlx::query!(
            "insert into devices (org_id, id, user_id, name, thumbprint, key_jkt, created_at,
                                  certificate_expires_at)
             values ($1, $2, $3, $4, $5, $6, $7, $8)",
            org,
            id.as_uuid(),
            user,
            key.name,
            key.thumbprint.as_bytes(),
            key.key_jkt,
            now.to_sqlx(),
            key.certificate_expires_at.to_sqlx()
        )
        .execute(&mut *tx)
        .await?;
        let entry = Entry::by_caller(caller, "device.added", id)
            .with(serde_json::json!({ "name": key.name, "key": key.thumbprint }));
        audit::record(&mut tx, entry, now).await?;
        tx.commit().await?;
        Ok(id)
    }

    /// Removes a device, and ends the sign-ins that were bound to its key.
    pub async fn remove_device(
        &self,
        permit: &Permit<RemoveDevice>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let RemoveDevice { org, device, owner } = *permit.action();
        let mut tx = self.pool.begin().await?;
        let key_jkt = sqlx::query_scalar!(
            "update devices set removed_at = $3
             where org_id = $1 and id = $2 and removed_at is null returning key_jkt",
            org.as_uuid(),
            device.as_uuid(),
            now.to_sqlx()
        )
        .fetch_optional(&mut *tx)
        .await?
        .ok_or(StoreError::NotFound { noun: "device" })?;
        let bearer = Bearer { org, user: owner };
        token_families::end_families(
            &mut tx,
            bearer,
            Some(&key_jkt),
            FamilyEnd::DeviceRemoved,
            now,
        )
        .await?;
        audit::record(&mut tx, Entry::by(permit, "device.removed", device), now).await?;
        notify::tell(&mut tx, org, Noun::Members, owner.as_uuid()).await?;
        Ok(tx.commit().await?)
    }
}

struct Row {
    id: Uuid,
    user_id: Uuid,
    name: String,
    thumbprint: Vec<u8>,
    key_jkt: String,
    created_at: Timestamp,
    certificate_expires_at: Timestamp,
}

impl TryFrom<Row> for Device {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let thumbprint = row
            .thumbprint
            .try_into()
            .map_err(|_| StoreError::damaged("device", "a thumbprint has 32 bytes"))?;
        Ok(Self {
            id: row.id.into(),
            user_id: row.user_id.into(),
            name: row.name,
            thumbprint: Thumbprint::from_bytes(thumbprint),
            key_jkt: row.key_jkt,
            created_at: row.created_at,
            certificate_expires_at: row.certificate_expires_at,
        })
    }
}
