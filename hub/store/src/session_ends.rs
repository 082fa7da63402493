//! How sessions end: once, with the reason and its audit row in one transaction.

use fairlead_model::{Phase, SessionId};
use hub_policy::{Denied, Permit, actions::EndSession};
use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use serde_json::json;

use crate::{
    EndCause, Session, Store, StoreError, Unscoped,
    audit::{self, Entry},
    notify::{self, Noun},
};

impl Store {
    /// Ends a session because somebody asked; false when it had ended already.
    pub async fn end_session(
        &self,
        permit: &Permit<EndSession>,
        reason: &str,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let EndSession { session: id, owner, .. } = *permit.action();
        let left = owner == permit.caller().actor.user();
        let cause = if left { EndCause::Left } else { EndCause::Decided };
        let entry = Entry::by(permit, "session.ended", id).with(json!({ "reason": reason }));
        let how = How { phase: Phase::Ended, cause, reason };
        end(&self.pool, permit.org(), id, &how, entry, now).await
    }
}

impl Unscoped<'_> {
    /// Ends a session without anybody asking: what it stood on is gone. False when it had ended already.
    pub async fn end_session(
        &self,
        session: &Session,
        reason: &str,
        refused_by: Option<&Denied>,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let mut entry = Entry::by_hub(session.org, "session.ended", session.id)
            .with(json!({ "reason": reason, "user": session.email }));
        if let Some(denied) = refused_by {
            entry = entry.refused_by(denied.policy_version, &denied.policies);
        }
        let how = How { phase: Phase::Ended, cause: EndCause::Decided, reason };
        end(self.pool, session.org, session.id, &how, entry, now).await
    }

    /// Ends a session that was seen to be over: given back, or refused before it began.
    pub async fn session_seen_to_end(
        &self,
        session: &Session,
        phase: Phase,
        reason: &str,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let entry = Entry::by_hub(session.org, "session.ended", session.id)
            .with(json!({ "reason": reason, "user": session.email }));
        let how = How { phase, cause: EndCause::Seen, reason };
        end(self.pool, session.org, session.id, &how, entry, now).await
    }
}

/// How a session ends.
struct How<'h> {
    phase: Phase,
    cause: EndCause,
    reason: &'h str,
}

async fn end(
    pool: &sqlx::PgPool,
    org: fairlead_model::OrgId,
    id: SessionId,
    how: &How<'_>,
    entry: Entry,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let mut tx = pool.begin().await?;
    let ended = sqlx::query!(
        "update sessions set ended_at = $3, end_reason = $4, phase = $5, end_cause = $6
         where org_id = $1 and id = $2 and ended_at is null",
        org.as_uuid(),
        id.as_uuid(),
        now.to_sqlx() as _,
        how.reason,
        how.phase.as_str(),
        how.cause.as_str(),
    )
    .execute(&mut *tx)
    .await?;
    if ended.rows_affected() == 0 {
        return Ok(false);
    }
    audit::record(&mut tx, entry, now).await?;
    notify::tell(&mut tx, org, Noun::Sessions, id.as_uuid()).await?;
    tx.commit().await?;
    Ok(true)
}
