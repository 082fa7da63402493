//! Gives intercepted Services back when no agent can: the janitor waits until every agent is gone, the chart's
//! pre-delete hook does it at once. The steps are the agent's own plan with nothing wanted.
//!
//! Dead agents answer nobody, so the slice is first rewritten in place to the original pods: kube-proxy follows one
//! changed slice within a sync. Deleting it, or only taking the key off, would cost another second of refusals.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::Context;
use fairlead_model::{ServiceRef, timers};
use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{Pod, Service},
    discovery::v1::{EndpointPort, EndpointSlice},
};
use kube::{Api, Client, Resource, ResourceExt, api::ListParams, core::NamespaceResourceScope};
use serde::de::DeserializeOwned;
use tracing::{info, warn};

use crate::{
    apply::{ApplyError, leases, services, slices},
    config::Place,
    health::Ready,
    intercept::{
        originals,
        plan::{AgentEndpoint, Change, Observed, plan},
    },
    names::{INTERCEPTED, MANAGED_BY, MANAGED_BY_US, OWNER, Owner, RESTORER, WRITER_LEASE},
    watch::{OwnSlice, PodsSeen, ServiceSeen, SliceSeen, label_query},
};

/// A replica reads the Lease once a second and stops writing when it is somebody else's.
const WRITERS_NOTICE: Duration = Duration::from_millis(1500);
const LOOK: Duration = Duration::from_secs(1);
/// One Service is given up for this round after so long; the next round tries again.
const SERVICE_LIMIT: Duration = Duration::from_secs(20);

/// Watches over the agents for ever.
pub(crate) async fn run(client: Client, place: Place, ready: Ready) -> anyhow::Result<()> {
    ready.set(true);
    let mut lease_seen = LeaseAge::default();
    loop {
        tokio::time::sleep(LOOK).await;
        match nobody_is_left(&client, &place, &mut lease_seen).await {
            Ok(false) => {}
            Ok(true) => {
                if let Err(error) = restore_all(&client, &place, true).await {
                    warn!("Not everything could be given back: {error:#}");
                }
            }
            Err(error) => warn!("The agents cannot be watched over: {error:#}"),
        }
    }
}

#[derive(Default)]
struct LeaseAge {
    version: Option<String>,
    since: Option<Instant>,
}

/// Says whether the writer's Lease has not been renewed for long enough and no agent pod is ready.
///
/// One Lease is enough: a living replica takes it as soon as its holder is gone.
async fn nobody_is_left(
    client: &Client,
    place: &Place,
    age: &mut LeaseAge,
) -> anyhow::Result<bool> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), &place.namespace);
    let lease = leases.get_opt(WRITER_LEASE).await.context("reading the writer's Lease")?;
    let version = lease.as_ref().and_then(ResourceExt::resource_version);
    if version != age.version || age.since.is_none() {
        *age = LeaseAge { version, since: Some(Instant::now()) };
    }
    if age.since.is_none_or(|since| since.elapsed() < timers::JANITOR_PATIENCE) {
        return Ok(false);
    }
    let pods: Api<Pod> = Api::namespaced(client.clone(), &place.namespace);
    let agents = ListParams::default().labels(&place.agent_selector);
    let agents = pods.list(&agents).await.context("listing the agent's pods")?;
    Ok(!agents.items.iter().any(originals::is_ready))
}

/// Gives everything back while agents may still live and want the opposite: takes the writer's Lease from them first.
pub(crate) async fn restore_from_the_living(client: &Client, place: &Place) -> anyhow::Result<()> {
    take_lease(client, place).await?;
    tokio::time::sleep(WRITERS_NOTICE).await;
    let keep_lease = async {
        loop {
            tokio::time::sleep(timers::AGENT_LEASE_RENEWAL).await;
            if let Err(error) = take_lease(client, place).await {
                warn!("The writer's Lease could not be kept: {error:#}");
            }
        }
    };
    tokio::select! {
        restored = restore_all(client, place, true) => restored,
        () = keep_lease => unreachable!("the Lease is kept for ever"),
    }
}

async fn take_lease(client: &Client, place: &Place) -> anyhow::Result<()> {
    const TRIES: usize = 5;
    let leases: Api<Lease> = Api::namespaced(client.clone(), &place.namespace);
    for _ in 0..TRIES {
        let lease = leases.get_opt(WRITER_LEASE).await.context("reading the writer's Lease")?;
        match leases::hold(client, &place.namespace, lease.as_ref(), RESTORER).await {
            Err(ApplyError::Conflict { .. }) => {}
            held => return held.map(drop).context("taking the writer's Lease"),
        }
    }
    anyhow::bail!("the writer's Lease is written by somebody else again and again")
}

/// Gives every Service of this installation back. With `agents_are_dead` the pods are put into the slices first.
pub(crate) async fn restore_all(
    client: &Client,
    place: &Place,
    agents_are_dead: bool,
) -> anyhow::Result<()> {
    let mut cluster = Cluster { client: client.clone(), owner: place.owner(), place };
    let names = cluster.intercepted().await?;
    let mut failed = Vec::new();
    for name in names {
        match tokio::time::timeout(SERVICE_LIMIT, cluster.give_back(&name, agents_are_dead)).await {
            Ok(Ok(())) => info!(service = %name, "{name} is given back"),
            Ok(Err(error)) => failed.push(format!("{name}: {error:#}")),
            Err(_) => failed.push(format!("{name}: its pods were not published in time")),
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(anyhow::anyhow!(failed.join("; "))) }
}

/// The cluster as it is at each question; nothing is remembered between two steps.
struct Cluster<'a> {
    client: Client,
    owner: Owner,
    place: &'a Place,
}

impl Cluster<'_> {
    /// Finds every Service with a key, a label or a slice of ours.
    async fn intercepted(&mut self) -> anyhow::Result<Vec<ServiceRef>> {
        let ours = |value: &str| self.owner.session_of(value).is_some();
        let mut names = BTreeMap::new();
        for service in
            self.list::<Service>(INTERCEPTED).await?.iter().filter_map(ServiceSeen::from_object)
        {
            let value = service.labels.get(INTERCEPTED).map(String::as_str);
            if service.sentinel().or(value).is_some_and(ours) {
                names.insert(service.service.clone(), ());
            }
        }
        let managed = format!("{MANAGED_BY}={MANAGED_BY_US},{OWNER}={}", self.owner.as_str());
        let slices = self.list::<EndpointSlice>(&managed).await?;
        let owned = slices.iter().filter_map(|s| SliceSeen::from_object(s, self.owner.as_str()));
        names.extend(owned.filter_map(|slice| Some((slice.own()?.service.clone(), ()))));
        Ok(names.into_keys().collect())
    }

    async fn list<K>(&self, labels: &str) -> anyhow::Result<Vec<K>>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + DeserializeOwned
            + std::fmt::Debug,
    {
        let params = ListParams::default().labels(labels);
        let mut items = Vec::new();
        for scope in self.place.scopes() {
            let api: Api<K> = match scope {
                Some(namespace) => Api::namespaced(self.client.clone(), namespace.as_str()),
                None => Api::all(self.client.clone()),
            };
            items.extend(api.list(&params).await.context("listing what is intercepted")?.items);
        }
        Ok(items)
    }

    /// Follows the plan for one Service until nothing of ours is left of it.
    async fn give_back(&self, name: &ServiceRef, agents_are_dead: bool) -> anyhow::Result<()> {
        let mut without_key_since = None;
        let mut opened = !agents_are_dead;
        loop {
            let service = self.service(name).await?;
            let (slice, originals_ready) = self.slices(name).await?;
            if let (false, Some(service), Some(slice)) = (opened, &service, &slice) {
                self.put_originals_in(service, slice).await?;
                opened = true;
            }
            let keyed = service.as_ref().is_some_and(|service| service.sentinel().is_some());
            let since = (!keyed).then(|| *without_key_since.get_or_insert_with(Instant::now));
            let observed = Observed {
                service: service.as_ref(),
                slice: slice.as_ref(),
                originals_ready,
                without_key_for: since.map_or(Duration::ZERO, |since| since.elapsed()),
            };
            let plan = plan(observed, None, |value| self.owner.session_of(value).is_some());
            if plan.is_settled() {
                return Ok(());
            }
            for change in plan.changes {
                self.make(change, service.as_ref(), slice.as_ref()).await?;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn make(
        &self,
        change: Change,
        service: Option<&ServiceSeen>,
        slice: Option<&OwnSlice>,
    ) -> anyhow::Result<()> {
        match (change, service, slice) {
            (Change::RemoveKey, Some(service), _) => {
                services::remove_key(&self.client, &service.service, &service.uid).await?;
            }
            (Change::DeleteSlice, _, Some(slice)) => slices::delete(&self.client, slice).await?,
            _ => {}
        }
        Ok(())
    }

    async fn service(&self, name: &ServiceRef) -> anyhow::Result<Option<ServiceSeen>> {
        let api: Api<Service> = Api::namespaced(self.client.clone(), name.namespace.as_str());
        Ok(api.get_opt(name.name.as_str()).await?.as_ref().and_then(ServiceSeen::from_object))
    }

    /// Returns our slice of a Service, and how many of its pods the cluster publishes.
    async fn slices(&self, name: &ServiceRef) -> anyhow::Result<(Option<OwnSlice>, usize)> {
        let api: Api<EndpointSlice> = Api::namespaced(self.client.clone(), name.namespace.as_str());
        let of_service =
            ListParams::default().labels(&format!("{}={}", crate::names::SERVICE_NAME, name.name));
        let slices = api.list(&of_service).await?;
        let seen: Vec<_> =
            slices.iter().filter_map(|s| SliceSeen::from_object(s, self.owner.as_str())).collect();
        let ready = seen.iter().map(SliceSeen::ready).sum();
        Ok((seen.iter().find_map(|slice| slice.own().cloned()), ready))
    }

    /// Rewrites our slice to the pods behind the Service. Pods of one Service may resolve a named port to different
    /// numbers, which one slice cannot say; then those of the first pod are served.
    async fn put_originals_in(
        &self,
        service: &ServiceSeen,
        slice: &OwnSlice,
    ) -> anyhow::Result<()> {
        let namespace = service.service.namespace.as_str();
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let behind = ListParams::default().labels(&label_query(&service.owners_selector()));
        let pods =
            api.list(&behind).await?.items.into_iter().map(|pod| (pod.name_any(), pod.into()));
        let pods = PodsSeen { synced: true, pods: pods.collect() };
        let ipv6 = slice.name.ends_with("-v6");
        let mut ports = Vec::new();
        let mut addresses: Vec<SocketAddr> = Vec::new();
        for port in &service.ports {
            let behind = originals::addresses(&pods, port, service.publish_not_ready, ipv6);
            let Some(first) = behind.first() else { continue };
            ports.push(EndpointPort {
                name: Some(port.name.clone()),
                protocol: Some(port.protocol.clone()),
                app_protocol: port.app_protocol.clone(),
                port: Some(i32::from(first.port())),
            });
            if addresses.is_empty() {
                addresses = behind;
            }
        }
        if addresses.is_empty() {
            warn!(service = %service.service, "{} has no ready pod to give its requests to", service.service);
            return Ok(());
        }
        let endpoints = pods.pods.values().filter_map(|pod| {
            let ip = originals::pod_ip(pod, ipv6)?;
            addresses.iter().any(|address| address.ip() == ip).then(|| AgentEndpoint {
                pod: pod.name_any(),
                pod_namespace: namespace.to_owned(),
                pod_uid: pod.uid().unwrap_or_default(),
                node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default(),
                ip,
            })
        });
        slices::patch(&self.client, slice, &ports, &endpoints.collect::<Vec<_>>()).await?;
        info!(service = %service.service, "Requests of {} go to its pods", service.service);
        Ok(())
    }
}
