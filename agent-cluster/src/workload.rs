//! What stands behind a Service: found once by a pod that its selector matches, the owners of that pod and the ports it
//! declares, then remembered. Asked by GET and bounded; pods are never watched for this.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use fairlead_model::ServiceRef;
use k8s_openapi::{
    api::{apps::v1::ReplicaSet, batch::v1::Job, core::v1::Pod},
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::{Api, Client, ResourceExt, api::ListParams};
use tokio::sync::{Semaphore, watch};
use tracing::debug;

use crate::{
    seen::{PortSeen, ServiceSeen, label_query},
    watch::Inventory,
};

/// Ports of one pod; further ones are not looked at.
const DECLARED_MAX: usize = 50;
/// Questions to the API at the same time.
const ASKING_MAX: usize = 4;
/// What was found is believed for this long; what was not found is asked again sooner.
const FOUND_FOR: Duration = Duration::from_secs(300);
const MISSED_FOR: Duration = Duration::from_secs(20);

type Found = BTreeMap<ServiceRef, Answer>;

#[derive(Debug)]
struct Answer {
    selector: BTreeMap<String, String>,
    behind: Behind,
    at: Instant,
}

/// What one pod told.
#[derive(Debug, Default)]
struct Behind {
    /// "Deployment/cart".
    owner: Option<String>,
    declared: Vec<PortSeen>,
}

/// The answers so far; `news` tells when there are more.
#[derive(Clone, Debug)]
pub(crate) struct Workloads {
    found: Arc<Mutex<Found>>,
    pub(crate) news: watch::Receiver<()>,
}

impl Workloads {
    /// Where nobody has asked.
    #[cfg(test)]
    pub(crate) fn unknown() -> Self {
        Self { found: Arc::default(), news: watch::channel(()).1 }
    }

    /// Where the pods of one Service declare these ports.
    #[cfg(test)]
    pub(crate) fn declaring(service: &str, declared: Vec<PortSeen>) -> Self {
        let behind = Behind { owner: None, declared };
        let answer = Answer { selector: BTreeMap::new(), behind, at: Instant::now() };
        let found = Found::from([(service.parse().expect("valid"), answer)]);
        Self { found: Arc::new(Mutex::new(found)), ..Self::unknown() }
    }

    pub(crate) fn owner_of(&self, service: &ServiceSeen) -> Option<String> {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.get(&service.service)?.behind.owner.clone()
    }

    /// Returns the ports that the containers of its pods declare.
    pub(crate) fn declared_by(&self, service: &ServiceSeen) -> Vec<PortSeen> {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.get(&service.service).map(|answer| answer.behind.declared.clone()).unwrap_or_default()
    }

    /// Finds the owners of all Services as they appear.
    pub(crate) fn follow(client: Client, mut inventory: watch::Receiver<Inventory>) -> Self {
        let found = Arc::new(Mutex::new(Found::new()));
        let (news_tx, news_rx) = watch::channel(());
        let workloads = Self { found: Arc::clone(&found), news: news_rx };
        tokio::spawn(async move {
            let asking = Arc::new(Semaphore::new(ASKING_MAX));
            let under_way = Arc::new(Mutex::new(BTreeSet::<ServiceRef>::new()));
            loop {
                for service in due(&inventory.borrow_and_update(), &found) {
                    let mut busy = under_way.lock().unwrap_or_else(PoisonError::into_inner);
                    if !busy.insert(service.service.clone()) {
                        continue;
                    }
                    drop(busy);
                    let (client, found, news) =
                        (client.clone(), Arc::clone(&found), news_tx.clone());
                    let (asking, under_way) = (Arc::clone(&asking), Arc::clone(&under_way));
                    tokio::spawn(async move {
                        let _turn = asking.acquire_owned().await;
                        ask(&client, &service, &found).await;
                        under_way
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .remove(&service.service);
                        news.send_replace(());
                    });
                }
                tokio::select! {
                    changed = inventory.changed() => if changed.is_err() { return },
                    () = tokio::time::sleep(MISSED_FOR) => {}
                }
                // Many Services appear at once; one look over them is enough.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        workloads
    }
}

fn due(inventory: &Inventory, found: &Mutex<Found>) -> Vec<Arc<ServiceSeen>> {
    let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
    found.retain(|service, _| inventory.service(service).is_some());
    let is_due = |service: &&Arc<ServiceSeen>| {
        let selector = service.owners_selector();
        !selector.is_empty()
            && found.get(&service.service).is_none_or(|answer| {
                let life = if answer.behind.owner.is_some() { FOUND_FOR } else { MISSED_FOR };
                answer.selector != selector || answer.at.elapsed() > life
            })
    };
    inventory.services().filter(is_due).cloned().collect()
}

async fn ask(client: &Client, service: &ServiceSeen, found: &Mutex<Found>) {
    let selector = service.owners_selector();
    let behind = behind(client, service.service.namespace.as_str(), &selector).await;
    let behind = behind.unwrap_or_else(|error| {
        debug!(service = %service.service, %error, "The workload behind a Service cannot be found");
        Behind::default()
    });
    let answer = Answer { selector, behind, at: Instant::now() };
    found.lock().unwrap_or_else(PoisonError::into_inner).insert(service.service.clone(), answer);
}

async fn behind(
    client: &Client,
    namespace: &str,
    selector: &BTreeMap<String, String>,
) -> Result<Behind, kube::Error> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let Some(labels) = label_query(selector) else { return Ok(Behind::default()) };
    let one = ListParams::default().labels(&labels).limit(1);
    let Some(pod) = pods.list(&one).await?.items.into_iter().next() else {
        return Ok(Behind::default());
    };
    let owner = owner_of(client, namespace, &pod).await?;
    Ok(Behind { owner, declared: declared_by(&pod) })
}

fn declared_by(pod: &Pod) -> Vec<PortSeen> {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let ports = containers.flat_map(|container| container.ports.iter().flatten());
    ports.filter_map(PortSeen::of_container).take(DECLARED_MAX).collect()
}

async fn owner_of(
    client: &Client,
    namespace: &str,
    pod: &Pod,
) -> Result<Option<String>, kube::Error> {
    let Some(owner) = controller(pod.owner_references()) else {
        return Ok(Some(format!("Pod/{}", pod.name_any())));
    };
    let above = match owner.kind.as_str() {
        "ReplicaSet" => {
            let sets: Api<ReplicaSet> = Api::namespaced(client.clone(), namespace);
            sets.get_metadata_opt(&owner.name)
                .await?
                .and_then(|set| controller(set.owner_references()))
        }
        "Job" => {
            let jobs: Api<Job> = Api::namespaced(client.clone(), namespace);
            jobs.get_metadata_opt(&owner.name)
                .await?
                .and_then(|job| controller(job.owner_references()))
        }
        _ => None,
    };
    let owner = above.unwrap_or(owner);
    Ok(Some(format!("{}/{}", owner.kind, owner.name)))
}

fn controller(owners: &[OwnerReference]) -> Option<OwnerReference> {
    owners.iter().find(|owner| owner.controller == Some(true)).or_else(|| owners.first()).cloned()
}
