//! Hosts outside the cluster, as they were decided for a session: which it may reach, and which a grant may still name.

use std::collections::BTreeMap;

use fairlead_model::{ExternalHost, SessionId};
use hub_policy::{Permit, Refused, actions::Reach};
use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use serde::Serialize;
use sqlx::{PgConnection, types::Json};

use crate::{Held, Scoped, Session, StoreError, session_services::Outcome, sessions::damaged};

impl Scoped<'_> {
    pub(crate) async fn add_hosts(
        &self,
        held: &mut BTreeMap<SessionId, Held>,
        since: Timestamp,
    ) -> Result<(), StoreError> {
        let ids: Vec<_> = held.keys().map(|id| id.as_uuid()).collect();
        let rows = sqlx::query!(
            "select session_id, host, port, taken_out from session_hosts
             where org_id = $1 and session_id = any($2) and allowed
               and (not taken_out or decided_at >= $3)
             order by session_id, host, port",
            self.org.as_uuid(),
            &ids,
            since.to_sqlx() as _,
        )
        .fetch_all(self.pool)
        .await?;
        for row in rows {
            let held = held.entry(SessionId::from_uuid(row.session_id)).or_default();
            let host = read(&row.host, row.port)?;
            let of =
                if row.taken_out { &mut held.hosts_taken_out } else { &mut held.granted.hosts };
            of.push(host);
        }
        Ok(())
    }
}

fn read(host: &str, port: i32) -> Result<ExternalHost, StoreError> {
    format!("{host}:{port}").parse().map_err(damaged)
}

/// One decision about a host as it is remembered.
#[derive(Debug, Serialize)]
pub(crate) struct DecidedHost<'d> {
    host: &'d str,
    port: u16,
    #[serde(flatten)]
    outcome: Outcome<'d>,
}

impl<'d> DecidedHost<'d> {
    /// Returns the decision, unless it is about a service.
    pub(crate) fn permitted(permit: &'d Permit<Reach>) -> Option<Self> {
        Self::of(permit.action(), permit.decision().into())
    }

    /// Returns the decision, unless it is about a service.
    pub(crate) fn refused(Refused { action, denied }: &'d Refused<Reach>) -> Option<Self> {
        Self::of(action, denied.into())
    }

    fn of(reach: &'d Reach, outcome: Outcome<'d>) -> Option<Self> {
        let Reach::Host(reach) = reach else { return None };
        let ExternalHost { name, port } = &reach.target.host;
        Some(Self { host: name.as_str(), port: port.get(), outcome })
    }
}

pub(crate) async fn remember(
    connection: &mut PgConnection,
    org: fairlead_model::OrgId,
    session: SessionId,
    decided: &[DecidedHost<'_>],
    now: Timestamp,
) -> Result<(), StoreError> {
    if decided.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "insert into session_hosts (org_id, session_id, host, port, allowed, policies, policy_version, decided_at)
         select $1, $2, host, port, allowed, policies, policy_version, $4
         from jsonb_to_recordset($3) as
             new (host text, port integer, allowed boolean, policies text[], policy_version bigint)
         on conflict (org_id, session_id, host, port)
         do update set allowed = excluded.allowed, taken_out = false, policies = excluded.policies,
                       policy_version = excluded.policy_version, decided_at = excluded.decided_at",
        org.as_uuid(),
        session.as_uuid(),
        Json(decided) as _,
        now.to_sqlx() as _,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Takes every host out of what a session may reach that is not among `stay`. That they were in it is remembered.
pub(crate) async fn keep_only(
    connection: &mut PgConnection,
    session: &Session,
    stay: &[DecidedHost<'_>],
    now: Timestamp,
) -> Result<(), StoreError> {
    let hosts: Vec<_> = stay.iter().map(|decided| decided.host.to_owned()).collect();
    let ports: Vec<_> = stay.iter().map(|decided| i32::from(decided.port)).collect();
    sqlx::query!(
        "update session_hosts set taken_out = true, decided_at = $5
         where org_id = $1 and session_id = $2 and allowed and not taken_out
           and (host, port) not in (select * from unnest($3::text[], $4::integer[]))",
        session.org.as_uuid(),
        session.id.as_uuid(),
        &hosts,
        &ports,
        now.to_sqlx() as _,
    )
    .execute(connection)
    .await?;
    Ok(())
}
