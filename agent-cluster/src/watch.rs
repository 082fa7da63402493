//! What the cluster looks like: Services and the readiness behind them, kept current by watches, pruned on arrival.
//! Read-only; who wants to act on it reads the inventory and goes to `apply`.
//!
//! EndpointSlices are watched although pods are not: the ready count of every service is part of the catalogue and
//! must be right within a second. A slice stands for up to a hundred endpoints and changes only when readiness
//! does, and of a foreign slice only that count, the addresses and the pods that have a name of their own are kept.

use std::{collections::BTreeMap, fmt::Debug, net::IpAddr, sync::Arc, time::Duration};

use fairlead_model::{Namespace, PodName, ServiceRef};
use futures_util::TryStreamExt;
use k8s_openapi::api::{
    core::v1::{Pod, Service},
    discovery::v1::EndpointSlice,
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
    intercept::originals::Counts,
    names,
    seen::{
        NamedPod, OwnSlice, PodsSeen, Published, ServiceSeen, SliceSeen, WrittenBy, key,
        label_query,
    },
};

/// The server ends a watch after this long, and it is begun again where it was. Shorter than what the client waits for
/// (`assemble.rs`), so that silence always means a dead connection: otherwise a path that swallows packets would leave
/// the agent blind for minutes.
pub(crate) const WATCH_SECONDS: u32 = 10;

/// Namespace and name.
type Key = (String, String);

/// Everything seen, with the questions that are asked of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inventory {
    services: BTreeMap<Key, Arc<ServiceSeen>>,
    slices: BTreeMap<Key, Arc<SliceSeen>>,
    /// Watches that have not listed everything yet.
    unsynced: usize,
}

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

    /// Finds the Service that the cluster answers for at an address: its own, or a pod's behind it.
    pub(crate) fn whose(&self, ip: IpAddr) -> Option<&ServiceRef> {
        let is_its = |seen: &&Arc<ServiceSeen>| {
            seen.cluster_ip == Some(ip) || seen.further_ips.contains(&ip)
        };
        let service = self.services.values().find(is_its).map(|seen| &seen.service);
        let pods = || self.slices.values().find(|slice| slice.addresses.contains(&ip));
        service.or_else(|| pods()?.service.as_ref())
    }

    pub(crate) fn own_slices(&self) -> impl Iterator<Item = &OwnSlice> {
        self.slices.values().filter_map(|slice| slice.own())
    }

    pub(crate) fn own_slice_of<'a>(&'a self, service: &'a ServiceRef) -> Option<&'a OwnSlice> {
        self.slices_of(service).find_map(SliceSeen::own)
    }

    /// Counts the ready endpoints that others publish for `service`.
    pub(crate) fn published(&self, service: &ServiceRef) -> Published {
        Published::by(self.slices_of(service))
    }

    /// Finds one pod of a headless Service by its name; of its addresses, one of the first family it has.
    pub(crate) fn pod<'a>(
        &'a self,
        service: &'a ServiceRef,
        name: &PodName,
    ) -> Option<&'a NamedPod> {
        let pods = self.slices_of(service).flat_map(|slice| &slice.pods);
        pods.filter(|pod| pod.name == *name).min_by_key(|pod| pod.ip.is_ipv6())
    }

    /// Lists the names of the pods of all headless Services in one pass, in the order in which a StatefulSet counts.
    pub(crate) fn named_pods(&self) -> BTreeMap<&ServiceRef, Vec<&PodName>> {
        let mut named: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for slice in self.slices.values().filter(|slice| !slice.pods.is_empty()) {
            let Some(service) = &slice.service else { continue };
            if self.service(service).is_some_and(|seen| seen.kind == "Headless") {
                named.entry(service).or_default().extend(slice.pods.iter().map(|pod| &pod.name));
            }
        }
        for names in named.values_mut() {
            names.sort_by_key(|name| (name.as_str().len(), name.as_str()));
            names.dedup();
        }
        named
    }

    /// Counts ready endpoints for all Services in one pass, those of any agent left out. What the cluster publishes for
    /// a Service of `originals` is not asked: the pods behind it were counted themselves.
    ///
    /// A Service of both address families has each pod in two slices, so the family that has more of them counts.
    pub(crate) fn ready_counts(&self, originals: &Counts) -> Counts {
        let mut families: BTreeMap<_, usize> = BTreeMap::new();
        for slice in self.slices.values() {
            let Some(service) = &slice.service else { continue };
            let is_added = match slice.by {
                WrittenBy::Cluster => !originals.contains_key(service),
                WrittenBy::Somebody => true,
                WrittenBy::ThisAgent(_) | WrittenBy::AnotherAgent => false,
            };
            if is_added {
                *families.entry((service, slice.ipv6)).or_default() += slice.ready;
            }
        }
        let mut most = Counts::new();
        for ((service, _), ready) in families {
            let counted = most.entry(service.clone()).or_default();
            *counted = ready.max(*counted);
        }
        for (service, ready) in originals {
            *most.entry(service.clone()).or_default() += ready;
        }
        most
    }

    #[cfg(test)]
    pub(crate) fn of(services: Vec<ServiceSeen>, slices: Vec<SliceSeen>) -> Self {
        let key = |service: &ServiceRef| (service.namespace.to_string(), service.name.to_string());
        let services = services.into_iter().map(|seen| (key(&seen.service), Arc::new(seen)));
        let slices = slices.into_iter().enumerate().map(|(n, seen)| {
            let (namespace, name) = key(seen.service.as_ref().expect("of a Service"));
            ((namespace, format!("{name}-{n}")), Arc::new(seen))
        });
        Self { services: services.collect(), slices: slices.collect(), unsynced: 0 }
    }

    fn slices_of<'a>(&'a self, service: &'a ServiceRef) -> impl Iterator<Item = &'a SliceSeen> {
        let from = (service.namespace.to_string(), String::new());
        self.slices
            .range(from..)
            .take_while(|((namespace, _), _)| namespace == service.namespace.as_str())
            .map(|(_, slice)| &**slice)
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
    for scope in scopes {
        let services = Kept {
            inventory: inventory_tx.clone(),
            map: |inventory| &mut inventory.services,
            scope: scope.clone(),
            listed: false,
        };
        let api = scoped::<Service>(client, scope.as_ref());
        let read = |object: Service| ServiceSeen::from_object(&object);
        tokio::spawn(follow(api, everything(), read, services));

        let slices = Kept {
            inventory: inventory_tx.clone(),
            map: |inventory| &mut inventory.slices,
            scope: scope.clone(),
            listed: false,
        };
        let api = scoped::<EndpointSlice>(client, scope.as_ref());
        let owner = owner.clone();
        let read = move |object| SliceSeen::from_object(&object, owner.as_str());
        tokio::spawn(follow(api, everything(), read, slices));
    }
    inventory_rx
}

/// Follows the pods that `labels` select in one namespace; the task ends with the receiver.
pub(crate) fn pods(client: &Client, namespace: &str, labels: &str) -> watch::Receiver<PodsSeen> {
    let (pods_tx, pods_rx) = watch::channel(PodsSeen::default());
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let read = |mut pod: Pod| {
        pod.managed_fields_mut().clear();
        pod.annotations_mut().clear();
        Some(pod)
    };
    tokio::spawn(follow(api, everything().labels(labels), read, pods_tx));
    pods_rx
}

/// Follows the pods behind a Service, by the selector its owner wrote.
pub(crate) fn pods_behind(client: &Client, service: &ServiceSeen) -> watch::Receiver<PodsSeen> {
    match label_query(&service.owners_selector()) {
        Some(labels) => pods(client, service.service.namespace.as_str(), &labels),
        None => watch::channel(PodsSeen { synced: true, ..PodsSeen::default() }).1,
    }
}

fn everything() -> watcher::Config {
    watcher::Config::default().page_size(500).timeout(WATCH_SECONDS)
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

/// Where one watch keeps what it sees.
trait Shelf<V>: Send + Sync {
    fn replace(&mut self, all: BTreeMap<Key, Arc<V>>);
    fn put(&mut self, key: Key, seen: V);
    fn remove(&mut self, key: &Key);
    /// Waits until nobody looks any more.
    fn closed(&self) -> impl Future<Output = ()> + Send;
}

/// One watch, from its first list until nobody looks: each object is reduced by `read` as it arrives.
async fn follow<K, V>(
    api: Api<K>,
    config: watcher::Config,
    read: impl Fn(K) -> Option<V> + Send,
    mut shelf: impl Shelf<V>,
) where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let mut events = std::pin::pin!(watcher(api, config).default_backoff());
    let mut listed = BTreeMap::new();
    loop {
        let event = tokio::select! {
            event = events.try_next() => event,
            () = shelf.closed() => return,
        };
        match event {
            Ok(Some(watcher::Event::Init)) => listed.clear(),
            Ok(Some(watcher::Event::InitApply(object))) => {
                let key = key(&object);
                listed.extend(read(object).map(|seen| (key, Arc::new(seen))));
            }
            Ok(Some(watcher::Event::InitDone)) => shelf.replace(std::mem::take(&mut listed)),
            Ok(Some(watcher::Event::Apply(object))) => {
                let key = key(&object);
                if let Some(seen) = read(object) {
                    shelf.put(key, seen);
                }
            }
            Ok(Some(watcher::Event::Delete(object))) => shelf.remove(&key(&object)),
            Ok(None) => {
                info!(kind = %K::kind(&()), "A watch ended");
                return;
            }
            Err(error) => {
                warn!(kind = %K::kind(&()), %error, "A watch failed and will be begun again");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// The part of the inventory that one watch is responsible for.
struct Kept<V> {
    inventory: watch::Sender<Inventory>,
    map: fn(&mut Inventory) -> &mut BTreeMap<Key, Arc<V>>,
    scope: Option<Namespace>,
    /// It has listed everything once.
    listed: bool,
}

impl<V: PartialEq + Send + Sync> Shelf<V> for Kept<V> {
    /// Replaces what this watch is responsible for, and nothing of its neighbours'.
    fn replace(&mut self, all: BTreeMap<Key, Arc<V>>) {
        let first = !std::mem::replace(&mut self.listed, true);
        self.inventory.send_modify(|inventory| {
            inventory.unsynced -= usize::from(first);
            let map = (self.map)(inventory);
            match &self.scope {
                Some(scope) => map.retain(|(namespace, _), _| namespace != scope.as_str()),
                None => map.clear(),
            }
            map.extend(all);
        });
    }

    /// Most updates of an object touch only what was pruned; those are no news.
    fn put(&mut self, key: Key, seen: V) {
        self.inventory.send_if_modified(|inventory| {
            let map = (self.map)(inventory);
            let changed = map.get(&key).is_none_or(|known| **known != seen);
            if changed {
                map.insert(key, Arc::new(seen));
            }
            changed
        });
    }

    fn remove(&mut self, key: &Key) {
        self.inventory.send_if_modified(|inventory| (self.map)(inventory).remove(key).is_some());
    }

    async fn closed(&self) {
        self.inventory.closed().await;
    }
}

/// All of one namespace, so names are enough.
impl Shelf<Pod> for watch::Sender<PodsSeen> {
    fn replace(&mut self, all: BTreeMap<Key, Arc<Pod>>) {
        let pods = all.into_iter().map(|((_, name), pod)| (name, pod)).collect();
        self.send_replace(PodsSeen { synced: true, pods });
    }

    fn put(&mut self, (_, name): Key, seen: Pod) {
        self.send_modify(|pods| {
            pods.pods.insert(name, Arc::new(seen));
        });
    }

    fn remove(&mut self, (_, name): &Key) {
        self.send_modify(|pods| {
            pods.pods.remove(name);
        });
    }

    async fn closed(&self) {
        watch::Sender::closed(self).await;
    }
}
