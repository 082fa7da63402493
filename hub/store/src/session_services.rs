//! What a session may reach, and what it was refused: the services it was decided about, with who decided it. A host
//! outside the cluster is `session_hosts.rs`; how either was decided is remembered in the same words.

use fairlead_model::{Port, Protocol, ServicePort, ServiceRef, SessionId};
use hub_policy::{
    Decision, Denied, Permit, Refused,
    actions::{Consume, Reach},
};
use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use serde::Serialize;
use sqlx::{PgConnection, types::Json};

use crate::{
    Session, StoreError, Unscoped,
    session_hosts::{self, DecidedHost},
};

/// Decisions about what a consume reaches.
pub(crate) struct Decisions<'d> {
    services: Vec<Decided<'d>>,
    pub(crate) hosts: Vec<DecidedHost<'d>>,
}

impl<'d> Decisions<'d> {
    pub(crate) fn of(
        permits: impl IntoIterator<Item = &'d Permit<Reach>> + Clone,
        refused: &'d [Refused<Reach>],
    ) -> Self {
        let yes = permits.clone().into_iter().filter_map(Decided::permitted);
        let no = refused.iter().filter_map(Decided::refused);
        let hosts_yes = permits.into_iter().filter_map(DecidedHost::permitted);
        let hosts_no = refused.iter().filter_map(DecidedHost::refused);
        Self { services: yes.chain(no).collect(), hosts: hosts_yes.chain(hosts_no).collect() }
    }

    pub(crate) async fn are_remembered(
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
pub(crate) struct Names {
    pub(crate) services: Vec<String>,
    pub(crate) hosts: Vec<String>,
}

impl Names {
    pub(crate) fn of<'p>(permits: impl IntoIterator<Item = &'p Permit<Reach>>) -> Self {
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

/// How something was decided, and by what.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome<'d> {
    allowed: bool,
    policies: &'d [String],
    policy_version: u64,
}

impl<'d> From<&'d Decision> for Outcome<'d> {
    fn from(Decision { policies, policy_version }: &'d Decision) -> Self {
        Self { allowed: true, policies, policy_version: *policy_version }
    }
}

impl<'d> From<&'d Denied> for Outcome<'d> {
    fn from(Denied { policies, policy_version, .. }: &'d Denied) -> Self {
        Self { allowed: false, policies, policy_version: *policy_version }
    }
}

/// One decision about a service as it is remembered.
#[derive(Serialize)]
pub(crate) struct Decided<'d> {
    namespace: &'d str,
    name: &'d str,
    /// Of TCP.
    ports: Vec<Port>,
    udp_ports: Vec<Port>,
    #[serde(flatten)]
    outcome: Outcome<'d>,
}

impl<'d> Decided<'d> {
    pub(crate) fn yes(
        service: &'d ServiceRef,
        ports: &'d [ServicePort],
        decision: &'d Decision,
    ) -> Self {
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
            outcome: decision.into(),
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
            outcome: denied.into(),
        })
    }
}

/// Remembers decisions about different services, all of them in one statement: a session can have thousands.
pub(crate) async fn remember(
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

/// Takes services out of what a session may reach. That they were in it is remembered: a laptop may hold a grant that
/// names them.
pub(crate) async fn take_out(
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
}
