//! Gives Services back from outside of an agent, step by step. The steps are the agent's own plan with nothing wanted.
//!
//! Dead agents answer nobody, so the slice is first rewritten in place to the original pods: kube-proxy follows one
//! changed slice within a sync. Deleting it, or only taking the key off, would cost another second of refusals.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::Context;
use fairlead_model::ServiceRef;
use futures_util::StreamExt;
use k8s_openapi::api::{
    core::v1::{Pod, Service},
    discovery::v1::{EndpointPort, EndpointSlice},
};
use kube::{Api, Client, Resource, ResourceExt, api::ListParams, core::NamespaceResourceScope};
use serde::de::DeserializeOwned;
use tokio::time::timeout;
use tracing::{info, warn};

use crate::{
    apply::{ApplyError, services, slices},
    config::Place,
    intercept::{
        originals,
        plan::{Change, Observed, plan},
    },
    names::{INTERCEPTED, MANAGED_BY, MANAGED_BY_US, OWNER, Owner, SERVICE_NAME},
    seen::{AgentEndpoint, OwnSlice, PodsSeen, Published, ServiceSeen, SliceSeen, label_query},
};

/// One Service is given up for this round after so long; the next round tries again.
const SERVICE_LIMIT: Duration = Duration::from_secs(40);
/// So many Services are given back at the same time: one that waits for its pods keeps no other waiting.
const AT_ONCE: usize = 8;
/// What the cluster makes of a step is looked at this often.
const LOOK: Duration = Duration::from_millis(50);

/// Gives every Service of this installation back.
pub(crate) async fn restore_all(client: &Client, place: &Place) -> anyhow::Result<()> {
    let names = intercepted(client, place).await?;
    let restored = futures_util::stream::iter(names)
        .map(|name| {
            let cluster = Cluster { client: client.clone(), owner: place.owner() };
            async move { restore(&cluster, &name).await.map_err(|why| format!("{name}: {why}")) }
        })
        .buffer_unordered(AT_ONCE)
        .collect::<Vec<_>>()
        .await;
    let failed: Vec<_> = restored.into_iter().filter_map(Result::err).collect();
    if failed.is_empty() { Ok(()) } else { Err(anyhow::anyhow!(failed.join("; "))) }
}

async fn restore(cluster: &Cluster, name: &ServiceRef) -> Result<(), String> {
    match timeout(SERVICE_LIMIT, cluster.give_back(name)).await {
        Ok(Ok(())) => {
            info!(service = %name, "{name} is given back");
            Ok(())
        }
        Ok(Err(error)) => Err(format!("{error:#}")),
        Err(_) => Err("its pods were not published in time".to_owned()),
    }
}

/// Finds every Service with a key, a label or a slice of ours.
pub(crate) async fn intercepted(
    client: &Client,
    place: &Place,
) -> anyhow::Result<BTreeSet<ServiceRef>> {
    let owner = place.owner();
    let ours = |value: &str| owner.session_of(value).is_some();
    let services = list::<Service>(client, place, INTERCEPTED).await?;
    let marked = services.iter().filter_map(ServiceSeen::from_object).filter(|service| {
        let label = service.labels.get(INTERCEPTED).map(String::as_str);
        service.sentinel().or(label).is_some_and(ours)
    });
    let mut names: BTreeSet<_> = marked.map(|service| service.service).collect();
    let managed = format!("{MANAGED_BY}={MANAGED_BY_US},{OWNER}={}", owner.as_str());
    let slices = list::<EndpointSlice>(client, place, &managed).await?;
    let owned = slices.iter().filter_map(|s| SliceSeen::from_object(s, owner.as_str()));
    names.extend(owned.filter_map(|slice| Some(slice.own()?.service.clone())));
    Ok(names)
}

async fn list<K>(client: &Client, place: &Place, labels: &str) -> anyhow::Result<Vec<K>>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug,
{
    let params = ListParams::default().labels(labels);
    let mut items = Vec::new();
    for scope in place.scopes() {
        let api: Api<K> = match scope {
            Some(namespace) => Api::namespaced(client.clone(), namespace.as_str()),
            None => Api::all(client.clone()),
        };
        items.extend(api.list(&params).await.context("listing what is intercepted")?.items);
    }
    Ok(items)
}

/// The cluster as it is at each question; nothing is remembered between two steps.
struct Cluster {
    client: Client,
    owner: Owner,
}

impl Cluster {
    /// Follows the plan for one Service until nothing of ours is left of it.
    async fn give_back(&self, name: &ServiceRef) -> anyhow::Result<()> {
        let mut key = (None, Instant::now());
        let mut pods_are_in = false;
        loop {
            let service = self.service(name).await?;
            let (slice, published) = self.slices(name).await?;
            let pods = match &service {
                Some(service) => Some(self.pods(service).await?),
                None => None,
            };
            if let (Some(service), Some(slice), Some(pods)) = (&service, &slice, &pods)
                && !std::mem::replace(&mut pods_are_in, true)
                && let Err(error) = self.put_originals_in(service, slice, pods).await
            {
                // Worse than a moment of refusals would be a Service that is never given back.
                warn!(service = %name, %error, "Requests of {name} could not be sent to its pods first");
            }
            let sentinel = service.as_ref().and_then(|s| s.sentinel().map(str::to_owned));
            if key.0 != sentinel {
                key = (sentinel, Instant::now());
            }
            let pods_ready = service.as_ref().zip(pods.as_ref());
            let observed = Observed {
                service: service.as_ref(),
                slice: slice.as_ref(),
                published,
                pods_ready: pods_ready.map(|(service, pods)| originals::ready(pods, service)),
                key_unchanged_for: key.1.elapsed(),
            };
            let plan = plan(observed, None, |value| self.owner.session_of(value).is_some());
            if plan.is_settled() {
                return Ok(());
            }
            for change in plan.changes {
                match self.make(change, service.as_ref(), slice.as_ref()).await {
                    // Somebody else was there in between: another look tells.
                    Ok(()) | Err(ApplyError::Conflict { .. } | ApplyError::Gone { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn make(
        &self,
        change: Change,
        service: Option<&ServiceSeen>,
        slice: Option<&OwnSlice>,
    ) -> Result<(), ApplyError> {
        match (change, service, slice) {
            (Change::RemoveKey, Some(service), _) => {
                services::remove_key(&self.client, service).await
            }
            (Change::WriteBack, Some(service), _) => {
                services::write_back(&self.client, service).await
            }
            (Change::DeleteSlice, _, Some(slice)) => slices::delete(&self.client, slice).await,
            _ => Ok(()),
        }
    }

    async fn service(&self, name: &ServiceRef) -> anyhow::Result<Option<ServiceSeen>> {
        let api: Api<Service> = Api::namespaced(self.client.clone(), name.namespace.as_str());
        Ok(api.get_opt(name.name.as_str()).await?.as_ref().and_then(ServiceSeen::from_object))
    }

    /// Returns our slice of a Service, and what others publish for it.
    async fn slices(&self, name: &ServiceRef) -> anyhow::Result<(Option<OwnSlice>, Published)> {
        let api: Api<EndpointSlice> = Api::namespaced(self.client.clone(), name.namespace.as_str());
        let of_service = ListParams::default().labels(&format!("{}={}", SERVICE_NAME, name.name));
        let slices = api.list(&of_service).await?;
        let seen: Vec<_> =
            slices.iter().filter_map(|s| SliceSeen::from_object(s, self.owner.as_str())).collect();
        let own = seen.iter().find_map(|slice| slice.own().cloned());
        Ok((own, Published::by(&seen)))
    }

    async fn pods(&self, service: &ServiceSeen) -> anyhow::Result<PodsSeen> {
        let Some(labels) = label_query(&service.owners_selector()) else {
            return Ok(PodsSeen { synced: true, ..PodsSeen::default() });
        };
        let namespace = service.service.namespace.as_str();
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let pods = api.list(&ListParams::default().labels(&labels)).await?.items;
        let pods = pods.into_iter().map(|pod| (pod.name_any(), pod.into())).collect();
        Ok(PodsSeen { synced: true, pods })
    }

    /// Rewrites our slice to the pods behind the Service. Pods of one Service may resolve a named port to different
    /// numbers, which one slice cannot say; then those of the first pod are served.
    async fn put_originals_in(
        &self,
        service: &ServiceSeen,
        slice: &OwnSlice,
        pods: &PodsSeen,
    ) -> Result<(), ApplyError> {
        let namespace = service.service.namespace.as_str();
        let ipv6 = slice.name.ends_with("-v6");
        let mut ports = Vec::new();
        let mut addresses: Vec<SocketAddr> = Vec::new();
        for port in &service.ports {
            let behind = originals::addresses(pods, port, service.publish_not_ready, ipv6);
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

#[cfg(test)]
mod tests {
    use fairlead_model::SessionId;
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        apply::fake::{FakeCluster, Objects},
        config::Run,
        made_up::{self, CART},
        names::{FIELD_MANAGER, INFO, MANAGED_BY_CLUSTER, SENTINEL},
    };

    const POD: &str = "/api/v1/namespaces/shop/pods/cart-1";
    const OURS: &str = "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices/fl-1-v4";
    const THEIRS: &str = "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices/cart-abc";

    fn owner() -> Owner {
        Owner::of("fairlead-system", "a=b")
    }

    /// A keyed Service with our slice and one pod of its own, which the cluster publishes while no key is on.
    fn intercepted_cart() -> FakeCluster {
        let cluster = FakeCluster::default();
        let sentinel = owner().sentinel(SessionId::generate()).to_string();
        cluster.put(CART, json!({
            "metadata": {
                "name": "cart", "namespace": "shop", "uid": "u1",
                "labels": {INTERCEPTED: sentinel}, "managedFields": [{"manager": FIELD_MANAGER}],
            },
            "spec": {
                "clusterIP": "10.96.0.7", "selector": {"app": "cart", SENTINEL: sentinel},
                "ports": [{"port": 80, "targetPort": 8080}],
            },
        }));
        cluster.put(POD, made_up::pod("cart-1", "10.244.1.9").0);
        cluster.put(OURS, made_up::slice(MANAGED_BY_US, owner().as_str(), &["10.244.1.7"]));
        cluster.follows(|objects| {
            assert!(answers(objects), "the Service has no endpoint");
            if !objects[CART]["spec"]["selector"][SENTINEL].is_string() {
                let theirs = made_up::slice(MANAGED_BY_CLUSTER, "", &["10.244.1.9"]);
                objects.insert(THEIRS.to_owned(), theirs);
            }
        });
        cluster
    }

    fn answers(objects: &Objects) -> bool {
        objects.contains_key(OURS) || objects.contains_key(THEIRS)
    }

    async fn gives_back(cluster: &FakeCluster) -> anyhow::Result<()> {
        let name = "shop/cart".parse().expect("valid");
        Cluster { client: cluster.client(), owner: owner() }.give_back(&name).await
    }

    #[tokio::test]
    async fn a_service_is_given_back_without_a_moment_of_nobody() {
        let cluster = intercepted_cart();
        gives_back(&cluster).await.expect("given back");
        let cart = cluster.get(CART);
        assert_eq!(cart["spec"]["selector"], json!({"app": "cart"}));
        assert_eq!(cart["metadata"]["managedFields"], Value::Null);
        assert_eq!(cluster.get(OURS), Value::Null);
        let first = cluster.asked().into_iter().find(|asked| !asked.starts_with("GET"));
        assert_eq!(first.as_deref(), Some(&*format!("PATCH {OURS}")), "the pods come first");
    }

    /// Slice and key are gone; the last patch, which gives the owner their selector back, was never made.
    #[tokio::test]
    async fn a_service_that_was_given_back_but_for_the_last_step_is_found_and_finished() {
        let cluster = intercepted_cart();
        let entry = |manager: &str| {
            json!([{
                "manager": manager, "operation": "Update", "apiVersion": "v1",
                "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:selector": {}}},
            }])
        };
        let remembers = r#"{"selectorOwners": [{"manager": "kubectl", "operation": "Update"}]}"#;
        cluster.follows(|_| {});
        cluster.change(CART, |cart| {
            cart["spec"]["selector"] = json!({"app": "cart"});
            cart["metadata"]["annotations"] = json!({INFO: remembers});
            cart["metadata"]["managedFields"] = entry(FIELD_MANAGER);
        });
        cluster.once_before("GET", |objects| drop(objects.remove(OURS)));
        let place = Place { agent_selector: "a=b".to_owned(), ..Run::any().place };
        restore_all(&cluster.client(), &place).await.expect("given back");
        let cart = cluster.get(CART);
        assert_eq!(cart["metadata"]["labels"], json!({}));
        assert_eq!(cart["metadata"]["annotations"], json!({}));
        assert_eq!(cart["metadata"]["managedFields"], entry("kubectl"));
    }

    #[tokio::test]
    async fn pods_that_may_not_be_put_into_the_slice_keep_nobody_from_giving_back() {
        let cluster = intercepted_cart();
        // What an admission policy that forbids the change looks like from here.
        cluster.once_before("PATCH", |objects| {
            objects.get_mut(OURS).expect("there")["metadata"]["uid"] = "s2".into();
        });
        gives_back(&cluster).await.expect("given back");
        assert_eq!(cluster.get(CART)["spec"]["selector"], json!({"app": "cart"}));
        assert_eq!(cluster.get(OURS), Value::Null);
    }

    #[tokio::test]
    async fn a_service_whose_owner_selects_nothing_is_not_given_the_pods_of_its_neighbours() {
        let cluster = intercepted_cart();
        cluster.change(CART, |cart| {
            let selector = cart["spec"]["selector"].as_object_mut().expect("a map");
            selector.remove("app");
        });
        let seen = made_up::seen(cluster.get(CART));
        let cluster = Cluster { client: cluster.client(), owner: owner() };
        let pods = cluster.pods(&seen).await.expect("listed");
        assert!(pods.synced && pods.pods.is_empty());
    }
}
