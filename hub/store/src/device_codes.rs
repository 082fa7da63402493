//! Codes of machines without a browser (RFC 8628), stored as hashes: asked for by a machine, answered in a browser, and good
//! for one family of tokens (`token_families.rs`).

use fairlead_model::{
    OrgId, UserId,
    timers::{DEVICE_CODE_LIFE, DEVICE_CODE_POLL},
};
use jiff::{SignedDuration, Timestamp};
use jiff_sqlx::ToSqlx;
use sqlx::PgConnection;

use crate::{
    Bearer, FamilyEnd, NewTokens, StoreError, Unscoped,
    token_families::{end_one, new_family},
};

/// More machines than that do not wait at once; the next one is told to come back.
const WAITING_MAX: i64 = 10_000;
/// Whoever asks too often waits this much longer from then on, up to the maximum of the table.
const SLOWER_BY_S: i32 = 5;

/// A machine that asks to be signed in.
#[derive(Clone, Debug)]
pub struct NewDeviceCode<'a> {
    pub code_hash: [u8; 32],
    pub user_code_hash: [u8; 32],
    pub key_jkt: &'a str,
    pub device_name: &'a str,
    pub asked_from: Option<String>,
}

/// A machine as somebody is asked about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AskingDevice {
    pub key_jkt: String,
    pub device_name: String,
    pub asked_from: Option<String>,
}

/// What a machine hears when it asks whether somebody has answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Polled {
    Pending,
    /// It asked again too soon, and shall wait longer from now on.
    TooSoon,
    Denied,
    Expired,
    /// Never given out, used before, or allowed by somebody who is gone.
    Unknown,
    /// Proven with another key than the one that asked.
    OtherKey,
    Issued(Bearer),
}

impl Unscoped<'_> {
    /// Keeps a machine's question. Returns false when too many wait already.
    pub async fn keep_device_code(
        &self,
        new: &NewDeviceCode<'_>,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let interval_s = i32::try_from(DEVICE_CODE_POLL.as_secs()).expect("a few seconds");
        let kept = sqlx::query!(
            "insert into device_codes (code_hash, user_code_hash, key_jkt, device_name, asked_from,
                                       created_at, expires_at, interval_s)
             select $1, $2, $3, $4, $5, $6, $7, $8
             where (select count(*) from device_codes where expires_at > $6) < $9",
            &new.code_hash,
            &new.user_code_hash,
            new.key_jkt,
            new.device_name,
            new.asked_from,
            now.to_sqlx(),
            (now + DEVICE_CODE_LIFE).to_sqlx(),
            interval_s,
            WAITING_MAX
        )
        .execute(self.pool)
        .await?;
        Ok(kept.rows_affected() == 1)
    }

    /// Finds the machine that waits for an answer under these letters.
    pub async fn asking_device(
        &self,
        user_code_hash: &[u8; 32],
        now: Timestamp,
    ) -> Result<Option<AskingDevice>, StoreError> {
        Ok(sqlx::query_as!(
            AskingDevice,
            "select key_jkt, device_name, asked_from from device_codes
             where user_code_hash = $1 and expires_at > $2 and answered_at is null",
            user_code_hash,
            now.to_sqlx()
        )
        .fetch_optional(self.pool)
        .await?)
    }

    /// Answers a machine, for whoever allows it or for nobody. Returns false when it waits no more.
    pub async fn answer_device(
        &self,
        user_code_hash: &[u8; 32],
        allowed_by: Option<Bearer>,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let (org, user) =
            allowed_by.map(|bearer| (bearer.org.as_uuid(), bearer.user.as_uuid())).unzip();
        let answered = sqlx::query!(
            "update device_codes set answered_at = $2, org_id = $3, user_id = $4
             where user_code_hash = $1 and expires_at > $2 and answered_at is null",
            user_code_hash,
            now.to_sqlx(),
            org,
            user
        )
        .execute(self.pool)
        .await?;
        Ok(answered.rows_affected() == 1)
    }

    /// Says what a machine hears, and gives it these tokens when somebody has allowed it: once.
    pub async fn poll_device(
        &self,
        code_hash: &[u8; 32],
        key_jkt: &str,
        tokens: &NewTokens,
        now: Timestamp,
    ) -> Result<Polled, StoreError> {
        let mut tx = self.pool.begin().await?;
        // The lock makes two who come with one code follow each other.
        let Some(row) = sqlx::query!(
            "select key_jkt, expires_at, interval_s, polled_at, answered_at, org_id, user_id, family_id
             from device_codes where code_hash = $1 for update",
            code_hash
        )
        .fetch_optional(&mut *tx)
        .await?
        else {
            return Ok(Polled::Unknown);
        };
        if row.key_jkt != key_jkt {
            return Ok(Polled::OtherKey);
        }
        let bearer = row.org_id.zip(row.user_id);
        let bearer =
            bearer.map(|(org, user)| Bearer { org: OrgId::from(org), user: UserId::from(user) });
        if let (Some(bearer), Some(family)) = (bearer, row.family_id) {
            end_one(&mut tx, bearer.org, family, FamilyEnd::Reuse, now).await?;
            tx.commit().await?;
            return Ok(Polled::Unknown);
        }
        if row.expires_at.to_jiff() <= now {
            return Ok(Polled::Expired);
        }
        let Some(bearer) = bearer else {
            if row.answered_at.is_some() {
                return Ok(Polled::Denied);
            }
            let wait = SignedDuration::from_secs(row.interval_s.into());
            let too_soon = row.polled_at.is_some_and(|polled_at| now < polled_at.to_jiff() + wait);
            note_poll(&mut tx, code_hash, too_soon, now).await?;
            tx.commit().await?;
            return Ok(if too_soon { Polled::TooSoon } else { Polled::Pending });
        };
        let family = new_family(&mut tx, bearer, key_jkt, tokens, now).await?;
        sqlx::query!(
            "update device_codes set family_id = $2 where code_hash = $1",
            code_hash,
            family
        )
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(Polled::Issued(bearer))
    }
}

async fn note_poll(
    connection: &mut PgConnection,
    code_hash: &[u8; 32],
    too_soon: bool,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query!(
        "update device_codes set polled_at = $2, interval_s = least(interval_s + $3, 600)
         where code_hash = $1",
        code_hash,
        now.to_sqlx(),
        if too_soon { SLOWER_BY_S } else { 0 }
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Forgets the machines that somebody has allowed and that have no tokens yet. Comes before
/// [`crate::token_families::end_families`], which then sees every family that was begun.
pub(crate) async fn forget_device_codes(
    connection: &mut PgConnection,
    bearer: Bearer,
) -> Result<(), StoreError> {
    sqlx::query!(
        "delete from device_codes where org_id = $1 and user_id = $2",
        bearer.org.as_uuid(),
        bearer.user.as_uuid()
    )
    .execute(connection)
    .await?;
    Ok(())
}
