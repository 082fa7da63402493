//! How sessions begin and change: each with its decisions and its audit rows in one transaction.

use fairlead_model::{
    DeviceId, InterceptPort, Patterns, Phase, Port, Protocol, ServicePort, ServiceRef, SessionId,
    TeamspaceId,
};
use hub_policy::{
    Decision, Denied, Permit, Permits, Refused,
    actions::{Consume, EndSession, Intercept, Reach},
};
use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use serde::Serialize;
use serde_json::json;
use sqlx::{PgConnection, types::Json};

use crate::{
    EndCause, Session, Store, StoreError, Unscoped,
    audit::{self, Entry},
    notify::{self, Noun},
    session_hosts::{self, DecidedHost},
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

/// What a consume becomes.
#[derive(Debug)]
pub struct ConsumeChange<'c> {
    pub permits: &'c Permits<Reach>,
    pub refused: &'c [Refused<Reach>],
    pub patterns: &'c Patterns,
    /// Services that it had and is no longer about. Of hosts it keeps what `permits` name.
    pub gone: &'c [ServiceRef],
    pub begun_from: Option<&'c str>,
}

/// Takes services out of what a session may reach. That they were in it is remembered: a laptop may hold a grant that
/// names them.
async fn take_out(
    connection: &mut PgConnection,
    session: &Session,
    services: &[ServiceRef],
    now: Timestamp,
) -> Result<(), StoreError> {
    let namespaces: Vec<_> = services.iter().map(|s| s.namespace.to_string()).collect();
    let names: Vec<_> = services.iter().map(|s| s.name.to_string()).collect();
    sqlx::query!(
        "update session_services set ports = '{}', udp_ports = '{}', decided_at = $5
         where org_id = $1 and session_id = $2 and allowed
           and cardinality(ports) + cardinality(udp_ports) > 0
           and (namespace, name) in (select * from unnest($3::text[], $4::text[]))",
        session.org.as_uuid(),
        session.id.as_uuid(),
        &namespaces,
        &names,
        now.to_sqlx() as _,
    )
    .execute(connection)
    .await?;
    Ok(())
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

    /// Takes over how the cluster calls the pods of what the session may reach; false when nothing changed.
    pub async fn session_pods_follow(&self, session: &Session) -> Result<bool, StoreError> {
        // No join: before Postgres has counted thousands of services that are new, it takes the one or the other for a
        // single row and compares each with each, which takes it 15 s at 5,000. A subquery has the whole key.
        let changed = sqlx::query!(
            "update session_services g set pods = (
                 select s.pods from services s
                 where (s.org_id, s.teamspace_id, s.namespace, s.name) = ($1, $3, g.namespace, g.name))
             where g.org_id = $1 and g.session_id = $2 and g.allowed
               and cardinality(g.ports) + cardinality(g.udp_ports) > 0
               and g.pods <> (
                 select s.pods from services s
                 where (s.org_id, s.teamspace_id, s.namespace, s.name) = ($1, $3, g.namespace, g.name))",
            session.org.as_uuid(),
            session.id.as_uuid(),
            session.teamspace.as_uuid(),
        )
        .execute(self.pool)
        .await?;
        Ok(changed.rows_affected() > 0)
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

/// Decisions about what a consume reaches.
struct Decisions<'d> {
    services: Vec<Decided<'d>>,
    hosts: Vec<DecidedHost<'d>>,
}

impl<'d> Decisions<'d> {
    fn of(
        permits: impl IntoIterator<Item = &'d Permit<Reach>> + Clone,
        refused: &'d [Refused<Reach>],
    ) -> Self {
        let yes = permits.clone().into_iter().filter_map(Decided::permitted);
        let no = refused.iter().filter_map(Decided::refused);
        let hosts_yes = permits.into_iter().filter_map(DecidedHost::yes);
        let hosts_no = refused.iter().filter_map(DecidedHost::no);
        Self { services: yes.chain(no).collect(), hosts: hosts_yes.chain(hosts_no).collect() }
    }

    async fn are_remembered(
        &self,
        connection: &mut PgConnection,
        org: fairlead_model::OrgId,
        session: SessionId,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        remember(connection, org, session, &self.services, now).await?;
        session_hosts::remember(connection, org, session, &self.hosts, now).await
    }
}

/// How people call what was permitted.
#[derive(Default)]
struct Names {
    services: Vec<String>,
    hosts: Vec<String>,
}

impl Names {
    fn of<'p>(permits: impl IntoIterator<Item = &'p Permit<Reach>>) -> Self {
        let mut names = Self::default();
        for reach in permits.into_iter().map(Permit::action) {
            match reach {
                Reach::Service(_) => names.services.push(reach.name()),
                Reach::Host(_) => names.hosts.push(reach.name()),
            }
        }
        names
    }
}

/// One decision about a service as it is remembered.
#[derive(Serialize)]
struct Decided<'d> {
    namespace: &'d str,
    name: &'d str,
    /// Of TCP.
    ports: Vec<Port>,
    udp_ports: Vec<Port>,
    allowed: bool,
    policies: &'d [String],
    policy_version: u64,
}

impl<'d> Decided<'d> {
    fn yes(service: &'d ServiceRef, ports: &'d [ServicePort], decision: &'d Decision) -> Self {
        let Decision { policy_version, policies } = decision;
        let ServiceRef { namespace, name } = service;
        let numbers = |protocol| {
            let ports = ports.iter().filter(|port| port.protocol == protocol);
            ports.map(|port| port.port).collect()
        };
        Self {
            namespace: namespace.as_str(),
            name: name.as_str(),
            ports: numbers(Protocol::Tcp),
            udp_ports: numbers(Protocol::Udp),
            allowed: true,
            policies,
            policy_version: *policy_version,
        }
    }

    /// Returns the decision, unless it is about a host.
    fn permitted(permit: &'d Permit<Reach>) -> Option<Self> {
        let Reach::Service(Consume { target, ports }) = permit.action() else { return None };
        Some(Self::yes(&target.service, ports, permit.decision()))
    }

    /// Returns the decision, unless it is about a host.
    fn refused(Refused { action, denied }: &'d Refused<Reach>) -> Option<Self> {
        let Reach::Service(Consume { target, .. }) = action else { return None };
        let ServiceRef { namespace, name } = &target.service;
        Some(Self {
            namespace: namespace.as_str(),
            name: name.as_str(),
            ports: Vec::new(),
            udp_ports: Vec::new(),
            allowed: false,
            policies: &denied.policies,
            policy_version: denied.policy_version,
        })
    }
}

/// Remembers decisions about different services, all of them in one statement: a session can have thousands.
async fn remember(
    connection: &mut PgConnection,
    org: fairlead_model::OrgId,
    session: SessionId,
    decided: &[Decided<'_>],
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query!(
        "insert into session_services (org_id, session_id, namespace, name, ports, allowed, policies,
                                       policy_version, decided_at, udp_ports)
         select $1, $2, namespace, name, ports, allowed, policies, policy_version, $4, udp_ports
         from jsonb_to_recordset($3) as
             new (namespace text, name text, ports integer[], allowed boolean, policies text[],
                  policy_version bigint, udp_ports integer[])
         on conflict (org_id, session_id, namespace, name)
         do update set ports = excluded.ports, allowed = excluded.allowed, policies = excluded.policies,
                       policy_version = excluded.policy_version, decided_at = excluded.decided_at,
                       udp_ports = excluded.udp_ports",
        org.as_uuid(),
        session.as_uuid(),
        Json(decided) as _,
        now.to_sqlx() as _,
    )
    .execute(connection)
    .await?;
    Ok(())
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
