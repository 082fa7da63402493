//! How sessions change while they live: what they are about, with its decisions and its audit rows in one transaction,
//! and what is seen of them.

use fairlead_model::{Patterns, Phase, ServiceRef};
use hub_policy::{Permit, Permits, Refused, actions::Reach};
use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use serde_json::json;

use crate::{
    Session, Store, StoreError, Unscoped,
    audit::{self, Entry},
    notify::{self, Noun},
    session_hosts,
    session_services::{Decisions, Names, take_out},
};

/// What a consume becomes.
#[derive(Debug)]
pub struct ConsumeChange<'c> {
    pub permits: &'c Permits<Reach>,
    pub refused: &'c [Refused<Reach>],
    pub patterns: &'c Patterns,
    /// Services that it gives up. Of hosts it keeps what `permits` name.
    pub gone: &'c [ServiceRef],
    pub begun_from: Option<&'c str>,
}

impl Store {
    /// Changes what a live consume is about: its words, and with them what it may reach.
    pub async fn change_consume(
        &self,
        session: &Session,
        change: &ConsumeChange<'_>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let ConsumeChange { permits, refused, patterns, gone, begun_from } = change;
        let words: Vec<_> = patterns.iter().map(ToString::to_string).collect();
        let mut tx = self.pool.begin().await?;
        sqlx::query!(
            "update sessions set patterns = $3, begun_from = $4, renewed_at = $5
             where org_id = $1 and id = $2",
            session.org.as_uuid(),
            session.id.as_uuid(),
            &words,
            *begun_from,
            now.to_sqlx() as _,
        )
        .execute(&mut *tx)
        .await?;
        let decided = Decisions::of(permits.iter(), refused);
        decided.are_remembered(&mut tx, session.org, session.id, now).await?;
        take_out(&mut tx, session, gone, now).await?;
        session_hosts::keep_only(&mut tx, session, &decided.hosts, now).await?;
        let Names { services, hosts } = Names::of(permits.iter());
        let refused: Vec<_> = refused.iter().map(|refused| refused.action.name()).collect();
        let entry = Entry::by(permits.first(), "session.changed", session.id).with(json!({
            "patterns": words, "services": services, "hosts": hosts, "refused": refused,
        }));
        audit::record(&mut tx, entry, now).await?;
        notify::tell(&mut tx, session.org, Noun::Sessions, session.id.as_uuid()).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Lets a live session follow the catalogue: what it may reach by now, and what is gone.
    pub async fn follow_catalogue(
        &self,
        session: &Session,
        added: &[Permit<Reach>],
        gone: &[ServiceRef],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut tx = self.pool.begin().await?;
        if let Some(first) = added.first() {
            let decided = Decisions::of(added, &[]);
            decided.are_remembered(&mut tx, session.org, session.id, now).await?;
            let Names { services, hosts } = Names::of(added);
            let entry = Entry::by(first, "session.widened", session.id)
                .with(json!({ "services": services, "hosts": hosts }));
            audit::record(&mut tx, entry, now).await?;
        }
        if !gone.is_empty() {
            take_out(&mut tx, session, gone, now).await?;
            let services: Vec<_> = gone.iter().map(ToString::to_string).collect();
            let entry = Entry::by_hub(session.org, "session.narrowed", session.id)
                .with(json!({ "services": services, "user": session.email }));
            audit::record(&mut tx, entry, now).await?;
        }
        notify::tell(&mut tx, session.org, Noun::Sessions, session.id.as_uuid()).await?;
        tx.commit().await?;
        Ok(())
    }
}

impl Unscoped<'_> {
    /// Stores what is seen of a live session; false when nothing changed.
    pub async fn session_observed(
        &self,
        session: &Session,
        phase: Phase,
        detail: Option<&str>,
    ) -> Result<bool, StoreError> {
        let mut tx = self.pool.begin().await?;
        let changed = sqlx::query!(
            "update sessions set phase = $3, detail = $4
             where org_id = $1 and id = $2 and ended_at is null
               and (phase, detail) is distinct from ($3, $4)",
            session.org.as_uuid(),
            session.id.as_uuid(),
            phase.as_str(),
            detail,
        )
        .execute(&mut *tx)
        .await?;
        if changed.rows_affected() == 0 {
            return Ok(false);
        }
        notify::tell(&mut tx, session.org, Noun::Sessions, session.id.as_uuid()).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Notes when the session's grant was last minted.
    pub async fn session_renewed(
        &self,
        session: &Session,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        sqlx::query!(
            "update sessions set renewed_at = $3 where org_id = $1 and id = $2",
            session.org.as_uuid(),
            session.id.as_uuid(),
            now.to_sqlx() as _,
        )
        .execute(self.pool)
        .await?;
        Ok(())
    }
}
