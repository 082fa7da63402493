//! The catalogue: which services a teamspace has, as its cluster reports them.

use std::collections::{BTreeMap, BTreeSet};

use fairlead_model::{OrgId, PodName, Port, Protocol, ServicePort, ServiceRef, TeamspaceId};
use hub_policy::{ServiceFacts, TeamspaceFacts};
use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, types::Json};

use crate::{
    Scoped, StoreError, Unscoped,
    notify::{self, Noun},
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    pub service: ServiceRef,
    /// "ClusterIP", "NodePort", "LoadBalancer", "Headless", "ExternalName".
    pub kind: String,
    pub ports: Vec<PortOfService>,
    /// "Deployment/cart"; `None` where nothing owns the pods.
    pub workload: Option<String>,
    pub ready_endpoints: i32,
    pub labels: BTreeMap<String, String>,
    /// Why this service cannot be intercepted.
    pub intercept_refusal: Option<String>,
    /// The names by which a headless service has its pods.
    pub pods: Vec<PodName>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortOfService {
    pub name: String,
    pub port: Port,
    pub protocol: Protocol,
    pub target_port: String,
    pub app_protocol: String,
}

impl Service {
    #[must_use]
    pub fn facts(&self, teamspace: &TeamspaceFacts) -> ServiceFacts {
        ServiceFacts {
            teamspace: teamspace.clone(),
            service: self.service.clone(),
            labels: self.labels.clone(),
        }
    }

    /// Returns the numbers of its TCP ports.
    pub fn tcp_ports(&self) -> impl Iterator<Item = Port> {
        self.ports.iter().filter(|port| port.protocol == Protocol::Tcp).map(|port| port.port)
    }

    /// Returns the ports at which it is consumed.
    pub fn consumable_ports(&self) -> impl Iterator<Item = ServicePort> {
        self.ports.iter().map(|port| ServicePort { port: port.port, protocol: port.protocol })
    }
}

struct Row {
    namespace: String,
    name: String,
    kind: String,
    ports: Json<Vec<PortOfService>>,
    workload: Option<String>,
    ready_endpoints: i32,
    labels: Json<BTreeMap<String, String>>,
    intercept_refusal: Option<String>,
    pods: Vec<String>,
}

impl TryFrom<Row> for Service {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let service = ServiceRef::parse_parts(&row.namespace, &row.name)
            .map_err(|error| StoreError::damaged("service", error))?;
        let pods = row.pods.into_iter().map(PodName::parse).collect::<Result<_, _>>();
        let pods = pods.map_err(|error| StoreError::damaged("service", error))?;
        Ok(Self {
            service,
            kind: row.kind,
            ports: row.ports.0,
            workload: row.workload,
            ready_endpoints: row.ready_endpoints,
            labels: row.labels.0,
            intercept_refusal: row.intercept_refusal,
            pods,
        })
    }
}

impl Scoped<'_> {
    /// Lists a teamspace's services by namespace and name.
    pub async fn services(&self, teamspace: TeamspaceId) -> Result<Vec<Service>, StoreError> {
        let rows = sqlx::query_as!(
            Row,
            "select namespace, name, type as kind, ports as \"ports: _\", workload, ready_endpoints,
                    labels as \"labels: _\", intercept_refusal, pods
             from services where org_id = $1 and teamspace_id = $2 order by namespace, name",
            self.org.as_uuid(),
            teamspace.as_uuid()
        )
        .fetch_all(self.pool)
        .await?;
        rows.into_iter().map(Service::try_from).collect()
    }

    /// Counts the services of each teamspace that has any.
    pub async fn service_counts(&self) -> Result<BTreeMap<TeamspaceId, i64>, StoreError> {
        let rows = sqlx::query!(
            "select teamspace_id, count(*) as \"services!\" from services where org_id = $1
             group by teamspace_id",
            self.org.as_uuid()
        )
        .fetch_all(self.pool)
        .await?;
        Ok(rows.into_iter().map(|row| (row.teamspace_id.into(), row.services)).collect())
    }
}

impl Unscoped<'_> {
    /// Takes what changed of a catalogue, and forgets what is not in the whole of it, where that is known.
    pub async fn take_catalogue(
        &self,
        org: OrgId,
        teamspace: TeamspaceId,
        changed: &[Service],
        deleted: &[ServiceRef],
        whole: Option<&BTreeSet<ServiceRef>>,
    ) -> Result<(), StoreError> {
        let mut tx = self.pool.begin().await?;
        if let Some(whole) = whole {
            let namespaces: Vec<_> = whole.iter().map(|s| s.namespace.to_string()).collect();
            let names: Vec<_> = whole.iter().map(|s| s.name.to_string()).collect();
            sqlx::query!(
                "delete from services where org_id = $1 and teamspace_id = $2
                 and (namespace, name) not in (select * from unnest($3::text[], $4::text[]))",
                org.as_uuid(),
                teamspace.as_uuid(),
                &namespaces,
                &names,
            )
            .execute(&mut *tx)
            .await?;
        }
        forget(&mut tx, org, teamspace, deleted).await?;
        keep(&mut tx, org, teamspace, changed).await?;
        notify::tell(&mut tx, org, Noun::Services, teamspace.as_uuid()).await?;
        tx.commit().await?;
        Ok(())
    }
}

/// Deletes services, all of them in one statement.
async fn forget(
    connection: &mut PgConnection,
    org: OrgId,
    teamspace: TeamspaceId,
    services: &[ServiceRef],
) -> Result<(), StoreError> {
    if services.is_empty() {
        return Ok(());
    }
    let namespaces: Vec<_> = services.iter().map(|s| s.namespace.to_string()).collect();
    let names: Vec<_> = services.iter().map(|s| s.name.to_string()).collect();
    sqlx::query!(
        "delete from services where org_id = $1 and teamspace_id = $2
         and (namespace, name) in (select * from unnest($3::text[], $4::text[]))",
        org.as_uuid(),
        teamspace.as_uuid(),
        &namespaces,
        &names,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// A service as one of many that are stored at once.
#[derive(Serialize)]
struct NewRow<'s> {
    namespace: &'s str,
    name: &'s str,
    kind: &'s str,
    ports: &'s [PortOfService],
    workload: Option<&'s str>,
    ready_endpoints: i32,
    labels: &'s BTreeMap<String, String>,
    intercept_refusal: Option<&'s str>,
    pods: &'s [PodName],
}

impl<'s> From<&'s Service> for NewRow<'s> {
    fn from(service: &'s Service) -> Self {
        Self {
            namespace: service.service.namespace.as_str(),
            name: service.service.name.as_str(),
            kind: &service.kind,
            ports: &service.ports,
            workload: service.workload.as_deref(),
            ready_endpoints: service.ready_endpoints,
            labels: &service.labels,
            intercept_refusal: service.intercept_refusal.as_deref(),
            pods: &service.pods,
        }
    }
}

/// Stores services, all of them in one statement: a cluster has thousands.
async fn keep(
    connection: &mut PgConnection,
    org: OrgId,
    teamspace: TeamspaceId,
    services: &[Service],
) -> Result<(), StoreError> {
    // One statement touches a row once: of a service that is named twice the last word counts.
    let rows: BTreeMap<_, NewRow<'_>> =
        services.iter().map(|service| (&service.service, service.into())).collect();
    if rows.is_empty() {
        return Ok(());
    }
    let rows: Vec<_> = rows.into_values().collect();
    sqlx::query!(
        "insert into services (org_id, teamspace_id, namespace, name, type, ports, workload,
                               ready_endpoints, labels, intercept_refusal, pods)
         select $1, $2, namespace, name, kind, ports, workload, ready_endpoints, labels, intercept_refusal,
                pods
         from jsonb_to_recordset($3) as
             new (namespace text, name text, kind text, ports jsonb, workload text,
                  ready_endpoints integer, labels jsonb, intercept_refusal text, pods text[])
         on conflict (org_id, teamspace_id, namespace, name)
         do update set type = excluded.type, ports = excluded.ports, workload = excluded.workload,
                       ready_endpoints = excluded.ready_endpoints, labels = excluded.labels,
                       intercept_refusal = excluded.intercept_refusal, pods = excluded.pods",
        org.as_uuid(),
        teamspace.as_uuid(),
        Json(rows) as _,
    )
    .execute(connection)
    .await?;
    Ok(())
}
