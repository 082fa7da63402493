//! How sessions begin: each with its decisions and its audit rows in one transaction.

use fairlead_model::{DeviceId, InterceptPort, Patterns, ServicePort, SessionId, TeamspaceId};
use hub_policy::{
    Permit, Permits, Refused,
    actions::{Intercept, Reach},
};
use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use serde_json::json;
use sqlx::types::Json;

use crate::{
    Session, Store, StoreError,
    audit::{self, Entry},
    notify::{self, Noun},
    session_services::{Decided, Decisions, Names, remember},
};

/// What the decisions do not say about a session that begins.
#[derive(Clone, Debug)]
pub struct Beginning {
    pub device: DeviceId,
    pub teamspace: TeamspaceId,
    pub begun_from: Option<String>,
}

/// The rule of the schema that lets one developer at a time have a service's requests.
pub const ONE_INTERCEPT: &str = "sessions_one_intercept";

impl Store {
    /// Records a consume with every decision about it, so that neither exists without the other.
    pub async fn begin_consume(
        &self,
        permits: &Permits<Reach>,
        refused: &[Refused<Reach>],
        patterns: &Patterns,
        beginning: &Beginning,
        now: Timestamp,
    ) -> Result<Session, StoreError> {
        let org = permits.first().org();
        let id = SessionId::generate();
        let words: Vec<_> = patterns.iter().map(ToString::to_string).collect();
        let mut tx = self.pool.begin().await?;
        sqlx::query!(
            "insert into sessions (org_id, id, kind, teamspace_id, user_id, device_id, patterns, begun_from,
                                   phase, created_at, renewed_at)
             values ($1, $2, 'consume', $3, $4, $5, $6, $7, 'preparing', $8, $8)",
            org.as_uuid(),
            id.as_uuid(),
            beginning.teamspace.as_uuid(),
            permits.first().caller().actor.user().as_uuid(),
            beginning.device.as_uuid(),
            &words,
            beginning.begun_from,
            now.to_sqlx() as _,
        )
        .execute(&mut *tx)
        .await?;
        let decided = Decisions::of(permits.iter(), refused);
        decided.are_remembered(&mut tx, org, id, now).await?;
        let Names { services, hosts } = Names::of(permits.iter());
        let refused: Vec<_> = refused.iter().map(|refused| refused.action.name()).collect();
        let entry = Entry::by(permits.first(), "session.began", id).with(json!({
            "kind": "consume", "teamspace": beginning.teamspace, "patterns": words,
            "services": services, "hosts": hosts, "refused": refused,
        }));
        audit::record(&mut tx, entry, now).await?;
        notify::tell(&mut tx, org, Noun::Sessions, id.as_uuid()).await?;
        tx.commit().await?;
        self.scoped(org).session(id).await
    }

    /// Records an intercept; a [`StoreError::Conflict`] of [`ONE_INTERCEPT`] when somebody has the service already.
    pub async fn begin_intercept(
        &self,
        permit: &Permit<Intercept>,
        beginning: &Beginning,
        now: Timestamp,
    ) -> Result<Session, StoreError> {
        let org = permit.org();
        let id = SessionId::generate();
        let Intercept { target, ports, grace_s } = permit.action();
        let grace_s = i32::try_from(*grace_s).expect("a grace is at most 300 s");
        let mut tx = self.pool.begin().await?;
        sqlx::query!(
            "insert into sessions (org_id, id, kind, teamspace_id, user_id, device_id, namespace, name, ports,
                                   grace_s, begun_from, phase, created_at, renewed_at)
             values ($1, $2, 'intercept', $3, $4, $5, $6, $7, $8, $9, $10, 'preparing', $11, $11)",
            org.as_uuid(),
            id.as_uuid(),
            beginning.teamspace.as_uuid(),
            permit.caller().actor.user().as_uuid(),
            beginning.device.as_uuid(),
            target.service.namespace.as_str(),
            target.service.name.as_str(),
            Json(ports) as _,
            grace_s,
            beginning.begun_from,
            now.to_sqlx() as _,
        )
        .execute(&mut *tx)
        .await?;
        let service_ports: Vec<_> =
            ports.iter().map(|p: &InterceptPort| ServicePort::tcp(p.service_port)).collect();
        let decided = Decided::yes(&target.service, &service_ports, permit.decision());
        remember(&mut tx, org, id, &[decided], now).await?;
        let entry = Entry::by(permit, "session.began", id).with(json!({
            "kind": "intercept", "teamspace": beginning.teamspace,
            "service": target.service.to_string(), "ports": ports, "grace_s": grace_s,
        }));
        audit::record(&mut tx, entry, now).await?;
        notify::tell(&mut tx, org, Noun::Sessions, id.as_uuid()).await?;
        tx.commit().await?;
        self.scoped(org).session(id).await
    }
}
