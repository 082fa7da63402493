//! What the cluster looks like: Services and the readiness behind them, kept current by watches, pruned on arrival.
//! Read-only; who wants to act on it reads the inventory and goes to `apply`.
//!
//! EndpointSlices are watched although pods are not: the ready count of every service is part of the catalogue and
//! must be right within a second. A slice stands for up to a hundred endpoints and changes only when readiness
//! does, and of a foreign slice nothing but that count is kept.

use std::{collections::BTreeMap, fmt::Debug, net::IpAddr, sync::Arc, time::Duration};

use fairlead_model::{Namespace, ServiceName, ServiceRef};
use futures_util::TryStreamExt;
use k8s_openapi::{
    api::{
        core::v1::{Pod, Service},
        discovery::v1::EndpointSlice,
    },
    apimachinery::pkg::util::intstr::IntOrString,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    core::NamespaceResourceScope,
    runtime::{WatchStreamExt, watcher},
};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::{
    intercept::plan::{AgentEndpoint, SlicePort},
    names,
};

/// One Service, reduced to what consumes, intercepts and the catalogue need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServiceSeen {
    pub(crate) service: ServiceRef,
    pub(crate) uid: String,
    /// "ClusterIP", "NodePort", "LoadBalancer", "Headless" or "ExternalName".
    pub(crate) kind: &'static str,
    pub(crate) cluster_ip: Option<IpAddr>,
    pub(crate) ip_families: Vec<String>,
    pub(crate) selector: BTreeMap<String, String>,
    pub(crate) ports: Vec<PortSeen>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) internal_traffic_local: bool,
    pub(crate) publish_not_ready: bool,
    pub(crate) deleting: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PortSeen {
    /// Empty where the Service has a single unnamed port.
    pub(crate) name: String,
    pub(crate) port: u16,
    /// "TCP", "UDP" or "SCTP".
    pub(crate) protocol: String,
    pub(crate) target: Target,
    pub(crate) app_protocol: Option<String>,
}

/// Which port of a pod stands behind a port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Number(u16),
    Name(String),
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl ServiceSeen {
    /// Returns the selector as its owner wrote it.
    pub(crate) fn owners_selector(&self) -> BTreeMap<String, String> {
        self.selector.iter().filter(|(key, _)| *key != names::SENTINEL).map(clone_pair).collect()
    }

    pub(crate) fn sentinel(&self) -> Option<&str> {
        self.selector.get(names::SENTINEL).map(String::as_str)
    }

    pub(crate) fn from_object(object: &Service) -> Option<Self> {
        let service =
            service_ref(object.metadata.namespace.as_deref()?, object.metadata.name.as_deref()?)?;
        let spec = object.spec.clone().unwrap_or_default();
        let declared = spec.type_.as_deref().unwrap_or("ClusterIP");
        let headless = spec.cluster_ip.as_deref() == Some("None");
        let kind = match declared {
            "ExternalName" => "ExternalName",
            _ if headless => "Headless",
            "NodePort" => "NodePort",
            "LoadBalancer" => "LoadBalancer",
            _ => "ClusterIP",
        };
        Some(Self {
            service,
            uid: object.uid().unwrap_or_default(),
            kind,
            cluster_ip: spec.cluster_ip.as_deref().and_then(|ip| ip.parse().ok()),
            ip_families: spec.ip_families.unwrap_or_default(),
            selector: spec.selector.unwrap_or_default(),
            ports: spec
                .ports
                .unwrap_or_default()
                .iter()
                .filter_map(PortSeen::from_object)
                .collect(),
            labels: object.labels().clone(),
            internal_traffic_local: spec.internal_traffic_policy.as_deref() == Some("Local"),
            publish_not_ready: spec.publish_not_ready_addresses == Some(true),
            deleting: object.metadata.deletion_timestamp.is_some(),
        })
    }
}

impl PortSeen {
    fn from_object(port: &k8s_openapi::api::core::v1::ServicePort) -> Option<Self> {
        let number = u16::try_from(port.port).ok()?;
        let target = match &port.target_port {
            Some(IntOrString::String(name)) => Target::Name(name.clone()),
            Some(IntOrString::Int(0)) | None => Target::Number(number),
            Some(IntOrString::Int(target)) => Target::Number(u16::try_from(*target).ok()?),
        };
        Some(Self {
            name: port.name.clone().unwrap_or_default(),
            port: number,
            protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
            target,
            app_protocol: port.app_protocol.clone(),
        })
    }
}

/// One EndpointSlice: how many endpoints are ready, and everything when it is ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SliceSeen {
    service: Option<ServiceRef>,
    ready: usize,
    own: Option<OwnSlice>,
}

/// A slice that this installation wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OwnSlice {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) service: ServiceRef,
    /// The Service that owns it; a Service that was deleted and made again has another one.
    pub(crate) service_uid: String,
    pub(crate) ports: Vec<SlicePort>,
    pub(crate) endpoints: Vec<AgentEndpoint>,
}

impl SliceSeen {
    pub(crate) fn from_object(object: &EndpointSlice, owner: &str) -> Option<Self> {
        let labels = object.labels();
        let namespace = object.metadata.namespace.as_deref()?;
        let service = labels.get(names::SERVICE_NAME).and_then(|name| service_ref(namespace, name));
        let ours = labels.get(names::MANAGED_BY).is_some_and(|by| by == names::MANAGED_BY_US);
        let of_this_owner = labels.get(names::OWNER).is_some_and(|o| o == owner);
        let own = service.clone().filter(|_| ours && of_this_owner).map(|service| OwnSlice {
            namespace: namespace.to_owned(),
            name: object.name_any(),
            uid: object.uid().unwrap_or_default(),
            service,
            service_uid: object
                .owner_references()
                .first()
                .map(|o| o.uid.clone())
                .unwrap_or_default(),
            ports: object.ports.iter().flatten().map(SlicePort::from_object).collect(),
            endpoints: object.endpoints.iter().filter_map(AgentEndpoint::from_object).collect(),
        });
        let is_ready = |e: &&k8s_openapi::api::discovery::v1::Endpoint| {
            e.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true)
        };
        let ready = if ours { 0 } else { object.endpoints.iter().filter(is_ready).count() };
        Some(Self { service, ready, own })
    }
}

impl SliceSeen {
    pub(crate) const fn ready(&self) -> usize {
        self.ready
    }

    pub(crate) const fn own(&self) -> Option<&OwnSlice> {
        self.own.as_ref()
    }
}

/// Everything seen, with the two questions that are asked of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inventory {
    services: BTreeMap<Key, Arc<ServiceSeen>>,
    slices: BTreeMap<Key, Arc<SliceSeen>>,
    /// Watches that have not listed everything yet.
    unsynced: usize,
}

/// The server ends a watch after this long, and it is begun again where it was. Shorter than what the client waits for
/// (`assemble.rs`), so that silence always means a dead connection: otherwise a path that swallows packets would leave
/// the agent blind for minutes.
pub(crate) const WATCH_SECONDS: u32 = 10;

/// Namespace and name.
type Key = (String, String);

impl Inventory {
    pub(crate) fn synced(&self) -> bool {
        self.unsynced == 0
    }

    pub(crate) fn service(&self, service: &ServiceRef) -> Option<&Arc<ServiceSeen>> {
        self.services.get(&(service.namespace.to_string(), service.name.to_string()))
    }

    pub(crate) fn services(&self) -> impl Iterator<Item = &Arc<ServiceSeen>> {
        self.services.values()
    }

    pub(crate) fn own_slices(&self) -> impl Iterator<Item = &OwnSlice> {
        self.slices.values().filter_map(|slice| slice.own.as_ref())
    }

    pub(crate) fn own_slice_of<'a>(&'a self, service: &'a ServiceRef) -> Option<&'a OwnSlice> {
        self.slices_of(service).find_map(|slice| slice.own.as_ref())
    }

    /// Counts the ready endpoints that the cluster itself publishes for `service`.
    pub(crate) fn ready_endpoints(&self, service: &ServiceRef) -> usize {
        self.slices_of(service).map(|slice| slice.ready).sum()
    }

    /// Counts ready endpoints for all Services in one pass.
    pub(crate) fn ready_counts(&self) -> BTreeMap<ServiceRef, usize> {
        let mut counts = BTreeMap::new();
        for slice in self.slices.values() {
            if let Some(service) = &slice.service {
                *counts.entry(service.clone()).or_default() += slice.ready;
            }
        }
        counts
    }

    fn slices_of<'a>(
        &'a self,
        service: &'a ServiceRef,
    ) -> impl Iterator<Item = &'a Arc<SliceSeen>> {
        let from = (service.namespace.to_string(), String::new());
        self.slices
            .range(from..)
            .take_while(|((namespace, _), _)| namespace == service.namespace.as_str())
            .map(|(_, slice)| slice)
            .filter(move |slice| slice.service.as_ref() == Some(service))
    }
}

/// Watches Services and EndpointSlices of `scopes` for as long as somebody holds the receiver.
pub(crate) fn inventory(
    client: &Client,
    scopes: &[Option<Namespace>],
    owner: &names::Owner,
) -> watch::Receiver<Inventory> {
    let (inventory_tx, inventory_rx) =
        watch::channel(Inventory { unsynced: scopes.len() * 2, ..Inventory::default() });
    let inventory_tx = Arc::new(inventory_tx);
    let owner = owner.as_str().to_owned();
    for scope in scopes {
        let services = Follow {
            api: scoped::<Service>(client, scope.as_ref()),
            read: ServiceSeen::from_object,
            map: |inventory| &mut inventory.services,
            scope: scope.clone(),
        };
        tokio::spawn(services.run(Arc::clone(&inventory_tx)));
        let owner = owner.clone();
        let slices = Follow {
            api: scoped::<EndpointSlice>(client, scope.as_ref()),
            read: move |object: &EndpointSlice| SliceSeen::from_object(object, &owner),
            map: |inventory| &mut inventory.slices,
            scope: scope.clone(),
        };
        tokio::spawn(slices.run(Arc::clone(&inventory_tx)));
    }
    inventory_rx
}

fn scoped<K>(client: &Client, scope: Option<&Namespace>) -> Api<K>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
{
    match scope {
        Some(namespace) => Api::namespaced(client.clone(), namespace.as_str()),
        None => Api::all(client.clone()),
    }
}

/// One watch: what is listed, how an object is reduced, and where the reduced ones are kept.
struct Follow<K, V, Read> {
    api: Api<K>,
    read: Read,
    map: fn(&mut Inventory) -> &mut BTreeMap<Key, Arc<V>>,
    scope: Option<Namespace>,
}

impl<K, V, Read> Follow<K, V, Read>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    V: PartialEq,
    Read: Fn(&K) -> Option<V>,
{
    async fn run(self, inventory: Arc<watch::Sender<Inventory>>) {
        let mut events = std::pin::pin!(
            watcher(
                self.api.clone(),
                watcher::Config::default().page_size(500).timeout(WATCH_SECONDS)
            )
            .default_backoff()
        );
        let mut listed: BTreeMap<Key, Arc<V>> = BTreeMap::new();
        let mut first = true;
        loop {
            let event = tokio::select! {
                event = events.try_next() => event,
                () = inventory.closed() => return,
            };
            match event {
                Ok(Some(watcher::Event::Init)) => listed.clear(),
                Ok(Some(watcher::Event::InitApply(object))) => self.remember(&mut listed, &object),
                Ok(Some(watcher::Event::InitDone)) => {
                    let listed = std::mem::take(&mut listed);
                    inventory.send_modify(|inventory| {
                        self.replace(inventory, listed);
                        inventory.unsynced -= usize::from(first);
                    });
                    first = false;
                }
                Ok(Some(watcher::Event::Apply(object))) => {
                    inventory.send_if_modified(|inventory| self.change(inventory, &object));
                }
                Ok(Some(watcher::Event::Delete(object))) => {
                    inventory.send_if_modified(|inventory| {
                        (self.map)(inventory).remove(&key(&object)).is_some()
                    });
                }
                Ok(None) => {
                    info!(kind = std::any::type_name::<K>(), "A watch ended");
                    return;
                }
                Err(error) => {
                    warn!(kind = std::any::type_name::<K>(), %error, "A watch failed and will be begun again");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    fn remember(&self, listed: &mut BTreeMap<Key, Arc<V>>, object: &K) {
        if let Some(seen) = (self.read)(object) {
            listed.insert(key(object), Arc::new(seen));
        }
    }

    /// Replaces what this watch is responsible for, and nothing of its neighbours'.
    fn replace(&self, inventory: &mut Inventory, listed: BTreeMap<Key, Arc<V>>) {
        let map = (self.map)(inventory);
        match &self.scope {
            Some(scope) => map.retain(|(namespace, _), _| namespace != scope.as_str()),
            None => map.clear(),
        }
        map.extend(listed);
    }

    /// Says whether anything we keep has changed: most updates of an object touch only what was pruned.
    fn change(&self, inventory: &mut Inventory, object: &K) -> bool {
        let Some(seen) = (self.read)(object) else { return false };
        let map = (self.map)(inventory);
        let key = key(object);
        if map.get(&key).is_some_and(|known| **known == seen) {
            return false;
        }
        map.insert(key, Arc::new(seen));
        true
    }
}

fn key<K: Resource>(object: &K) -> Key {
    let meta = object.meta();
    (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
}

fn clone_pair((key, value): (&String, &String)) -> (String, String) {
    (key.clone(), value.clone())
}

pub(crate) fn service_ref(namespace: &str, name: &str) -> Option<ServiceRef> {
    Some(ServiceRef::new(Namespace::parse(namespace).ok()?, ServiceName::parse(name).ok()?))
}

/// Follows the pods that `labels` select in one namespace; the task ends with the receiver.
pub(crate) fn pods(client: &Client, namespace: &str, labels: &str) -> watch::Receiver<PodsSeen> {
    let (pods_tx, pods_rx) = watch::channel(PodsSeen::default());
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let config = watcher::Config::default().labels(labels).timeout(WATCH_SECONDS);
    tokio::spawn(follow_pods(api, config, pods_tx));
    pods_rx
}

/// Pods by name; `synced` tells an empty set from one that was not listed yet.
#[derive(Clone, Debug, Default)]
pub(crate) struct PodsSeen {
    pub(crate) synced: bool,
    pub(crate) pods: BTreeMap<String, Arc<Pod>>,
}

async fn follow_pods(api: Api<Pod>, config: watcher::Config, pods: watch::Sender<PodsSeen>) {
    let mut events = std::pin::pin!(watcher(api, config).default_backoff().modify(|pod| {
        pod.managed_fields_mut().clear();
        pod.annotations_mut().clear();
    }));
    let mut listed = BTreeMap::new();
    loop {
        let event = tokio::select! {
            event = events.try_next() => event,
            () = pods.closed() => return,
        };
        match event {
            Ok(Some(watcher::Event::Init)) => listed.clear(),
            Ok(Some(watcher::Event::InitApply(pod))) => {
                listed.insert(pod.name_any(), Arc::new(pod));
            }
            Ok(Some(watcher::Event::InitDone)) => {
                pods.send_replace(PodsSeen { synced: true, pods: std::mem::take(&mut listed) });
            }
            Ok(Some(watcher::Event::Apply(pod))) => pods.send_modify(|seen| {
                seen.pods.insert(pod.name_any(), Arc::new(pod));
            }),
            Ok(Some(watcher::Event::Delete(pod))) => pods.send_modify(|seen| {
                seen.pods.remove(&pod.name_any());
            }),
            Ok(None) => return,
            Err(error) => {
                warn!(%error, "A watch of pods failed and will be begun again");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Writes a selector as the API wants it in a query.
pub(crate) fn label_query(selector: &BTreeMap<String, String>) -> String {
    selector.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}
