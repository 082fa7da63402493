//! The sentinel key of a Service: put on and taken off, and nothing else of a Service is ever changed.
//!
//! Each change is two patches: the key, and then the `managedFields` of before. Why, and what a writer that dies in
//! between leaves to the next one, is told in `docs/decisions/0001-one-selector-key.md`.
#![expect(
    clippy::disallowed_methods,
    reason = "one of the files of apply/, the only place that changes Kubernetes"
)]

use fairlead_model::ServiceRef;
use k8s_openapi::{api::core::v1::Service, apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry};
use kube::{
    Api, Client, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use super::{
    ApplyError,
    claims::{Claim, claims, without_us},
    info::{self, Info},
    json_patch, key, slices,
};
use crate::{
    names::{FIELD_MANAGER, Sentinel},
    seen::{ServiceSeen, is_our_entry},
};

/// So often a Service is read again because somebody else wrote it in between.
const TRIES: usize = 5;

/// Puts the key on `service` as it was seen.
///
/// Only onto a Service whose sentinel is still the one that was seen, and while the slice of ours stands: a writer
/// that was held up, and whose place another one took, must leave no Service without an endpoint behind.
pub(crate) async fn add_key(
    client: &Client,
    service: &ServiceSeen,
    sentinel: &Sentinel,
    info: &Info,
    slice: &str,
) -> Result<(), ApplyError> {
    let what = format!("could not redirect {}", service.service);
    Pen::new(client, service, what).make(Change::Add { sentinel, info, slice }).await
}

/// Asks the API whether it would take the key; nothing changes, and the error says what it would refuse.
pub(crate) async fn try_key(
    client: &Client,
    service: &ServiceSeen,
    sentinel: &Sentinel,
    info: &Info,
) -> Result<(), ApplyError> {
    let what = format!("could not redirect {}", service.service);
    Pen::new(client, service, what).make(Change::Try { sentinel, info }).await
}

/// Takes the key, the label and the annotation off, whichever of them are there. A key other than the one that was
/// seen stays.
pub(crate) async fn remove_key(client: &Client, service: &ServiceSeen) -> Result<(), ApplyError> {
    let what = format!("could not give {} back", service.service);
    Pen::new(client, service, what).make(Change::Remove).await
}

/// Gives back what a patch of ours took of `managedFields`, should it have been the last thing its writer did.
pub(crate) async fn write_back(client: &Client, service: &ServiceSeen) -> Result<(), ApplyError> {
    let what = format!("could not clean up after a change of {}", service.service);
    let pen = Pen::new(client, service, what);
    let current = pen.read().await?;
    let fields = fields_owed(&current);
    pen.finish(current, fields, Marks::Stay).await
}

/// What may be done with the key.
enum Change<'a> {
    Add { sentinel: &'a Sentinel, info: &'a Info, slice: &'a str },
    Try { sentinel: &'a Sentinel, info: &'a Info },
    Remove,
}

impl Change<'_> {
    /// Lists what the first patch changes, given the Service as it is and who is to own its selector afterwards.
    fn operations(&self, before: &Service, name: &ServiceRef, claims: &[Claim]) -> Vec<Value> {
        match self {
            Self::Add { sentinel, info, .. } | Self::Try { sentinel, info } => {
                key::put_on(before, sentinel, &info.text(name, claims))
            }
            Self::Remove => key::take_off(before, claims),
        }
    }

    const fn marks(&self) -> Marks {
        match self {
            Self::Add { .. } | Self::Try { .. } => Marks::Stay,
            Self::Remove => Marks::Go,
        }
    }
}

/// Label and annotation.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Marks {
    Stay,
    Go,
}

/// What writes one Service.
struct Pen<'a> {
    client: &'a Client,
    api: Api<Service>,
    seen: &'a ServiceSeen,
    what: String,
}

impl<'a> Pen<'a> {
    fn new(client: &'a Client, seen: &'a ServiceSeen, what: String) -> Self {
        Self { client, api: api(client, &seen.service), seen, what }
    }

    /// Reads the Service, checks that it is the one that was seen, and patches that very version of it. Somebody who
    /// writes in between is read again, not written over.
    async fn make(&self, change: Change<'_>) -> Result<(), ApplyError> {
        let dry_run = matches!(change, Change::Try { .. });
        let mut last = self.conflict();
        for left in (0..TRIES).rev() {
            let before = self.read().await?;
            if key::sentinel_of(&before) != self.seen.sentinel() {
                return Err(self.conflict());
            }
            if let Change::Add { slice, .. } = change {
                slices::must_stand(self.client, &self.seen.service, slice, &self.what).await?;
            }
            let fields = fields_owed(&before);
            let claims = match change {
                // No annotation, however little the API likes it, may keep a Service from being given back.
                Change::Remove if left == 0 => info::remembered(&before),
                _ => claims(&fields),
            };
            let operations = change.operations(&before, &self.seen.service, &claims);
            if operations.is_empty() {
                return self.finish(before, fields, change.marks()).await;
            }
            match self.patch(&before, operations, dry_run).await {
                Ok(_) if dry_run => return Ok(()),
                Ok(after) => return self.finish(after, fields, change.marks()).await,
                Err(error) if has_moved_on(&error) => last = self.failed(error),
                Err(error) if matches!(change, Change::Remove) && is_refusal(&error) => {
                    last = self.failed(error);
                }
                Err(error) => return Err(self.failed(error)),
            }
        }
        Err(last)
    }

    /// Writes `fields` to the Service as it is in `current`, and takes the marks off where they are to go. Where
    /// somebody wrote in between, their version of it is finished.
    async fn finish(
        &self,
        mut current: Service,
        mut fields: Vec<ManagedFieldsEntry>,
        marks: Marks,
    ) -> Result<(), ApplyError> {
        for left in (0..TRIES).rev() {
            let mut operations = match marks {
                Marks::Go if key::sentinel_of(&current).is_none() => key::unmark(&current),
                _ => Vec::new(),
            };
            if current.managed_fields() != fields {
                operations.push(key::write_fields(&fields));
            }
            if operations.is_empty() {
                return Ok(());
            }
            match self.patch(&current, operations, false).await {
                Ok(_) => return Ok(()),
                Err(error) if has_moved_on(&error) => {
                    current = self.read().await?;
                    fields = match left {
                        // Whatever was remembered, our entry does not stay for it.
                        1 => without_us(current.managed_fields(), &[]),
                        _ => fields_owed(&current),
                    };
                }
                Err(error) => return Err(self.failed(error)),
            }
        }
        Err(self.conflict())
    }

    async fn patch(
        &self,
        version: &Service,
        operations: Vec<Value>,
        dry_run: bool,
    ) -> Result<Service, kube::Error> {
        let params = PatchParams { dry_run, ..PatchParams::apply(FIELD_MANAGER) };
        let name = self.seen.service.name.as_str();
        self.api.patch(name, &params, &of_version(version, operations)).await
    }

    async fn read(&self) -> Result<Service, ApplyError> {
        let name = self.seen.service.name.as_str();
        let service = self.api.get(name).await.map_err(|error| self.failed(error))?;
        match service.uid() {
            Some(uid) if uid == self.seen.uid => Ok(service),
            _ => Err(ApplyError::Gone { what: self.what.clone() }),
        }
    }

    fn failed(&self, error: kube::Error) -> ApplyError {
        ApplyError::from_api(&self.what, error)
    }

    fn conflict(&self) -> ApplyError {
        ApplyError::Conflict { what: self.what.clone() }
    }
}

/// Returns the `managedFields` that the Service should have: what a change that was not finished took is given back.
fn fields_owed(service: &Service) -> Vec<ManagedFieldsEntry> {
    without_us(service.managed_fields(), &info::remembered(service))
}

/// A `test` that fails makes the patch invalid (422); two patches at the same moment conflict (409).
fn has_moved_on(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if matches!(status.code, 409 | 422))
}

/// Somebody's admission webhook may dislike what is written, with whichever code.
fn is_refusal(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if (400..500).contains(&status.code) && status.code != 404)
}

fn of_version(service: &Service, operations: Vec<Value>) -> Patch<()> {
    let version = service.resource_version();
    let test = json!({"op": "test", "path": "/metadata/resourceVersion", "value": version});
    json_patch(Value::Array([vec![test], operations].concat()))
}

/// Names whoever wrote the Service last: who keeps removing the key.
pub(crate) async fn last_writer(client: &Client, service: &ServiceRef) -> Option<String> {
    let service = api(client, service).get(service.name.as_str()).await.ok()?;
    let of_others = service.managed_fields().iter().filter(|entry| !is_our_entry(entry));
    of_others.max_by_key(|entry| entry.time.as_ref().map(|t| t.0))?.manager.clone()
}

fn api(client: &Client, service: &ServiceRef) -> Api<Service> {
    Api::namespaced(client.clone(), service.namespace.as_str())
}

#[cfg(test)]
mod tests {
    use fairlead_model::SessionId;
    use jiff::Timestamp;

    use super::*;
    use crate::{
        apply::fake::FakeCluster,
        made_up::{self, CART},
        names::{Owner, SENTINEL},
    };

    /// A cluster with one Service and, where there is to be one, our slice of it.
    fn cluster(selector: Value, with_slice: bool) -> (FakeCluster, ServiceSeen) {
        let cluster = FakeCluster::default();
        let object = json!({
            "metadata": {
                "name": "cart", "namespace": "shop", "uid": "u1",
                "managedFields": [{"manager": "helm", "fieldsV1": {"f:spec": {}}}],
            },
            "spec": {"selector": selector},
        });
        cluster.put(CART, object.clone());
        if with_slice {
            cluster.put(SLICE, json!({"metadata": {"name": "fl-1-v4", "namespace": "shop"}}));
        }
        (cluster, made_up::seen(object))
    }

    const SLICE: &str = "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices/fl-1-v4";
    const FOREIGN: &str = "ffffffffffff.00000000000000000000000000000001";

    async fn adds(cluster: &FakeCluster, seen: &ServiceSeen) -> Result<(), ApplyError> {
        let sentinel = Owner::of("ns", "a=b").sentinel(SessionId::generate());
        add_key(&cluster.client(), seen, &sentinel, &info(), "fl-1-v4").await
    }

    fn managers(object: &Value) -> Vec<String> {
        let fields = object["metadata"]["managedFields"].as_array().expect("fields").iter();
        fields.map(|entry| entry["manager"].as_str().expect("named").to_owned()).collect()
    }

    #[tokio::test]
    async fn a_service_bears_no_entry_of_ours_after_a_change() {
        let (cluster, seen) = cluster(json!({"app": "cart"}), true);
        let before = cluster.get(CART)["metadata"]["managedFields"].clone();
        adds(&cluster, &seen).await.expect("keyed");
        let keyed = cluster.get(CART);
        assert!(keyed["spec"]["selector"][SENTINEL].is_string());
        assert_eq!(keyed["metadata"]["managedFields"], before);
        let seen = made_up::seen(keyed);
        remove_key(&cluster.client(), &seen).await.expect("given back");
        assert_eq!(cluster.get(CART)["spec"]["selector"], json!({"app": "cart"}));
        assert_eq!(cluster.get(CART)["metadata"]["managedFields"], before);
    }

    #[tokio::test]
    async fn an_owner_who_writes_in_between_keeps_what_they_own() {
        let (cluster, seen) = cluster(json!({"app": "cart"}), true);
        cluster.once_before("PATCH", |objects| {
            let cart = objects.get_mut(CART).expect("there");
            cart["spec"]["selector"]["tier"] = "web".into();
            let fields = cart["metadata"]["managedFields"].as_array_mut().expect("fields");
            fields.push(json!({"manager": "kubectl-edit"}));
        });
        adds(&cluster, &seen).await.expect("keyed at the second try");
        let keyed = cluster.get(CART);
        assert_eq!(managers(&keyed), ["helm", "kubectl-edit"]);
        assert_eq!(keyed["spec"]["selector"]["tier"], "web");
    }

    #[tokio::test]
    async fn a_foreign_key_set_after_our_look_is_neither_overwritten_nor_removed() {
        let foreign = json!({"app": "cart", SENTINEL: FOREIGN});
        for ours in [None, Some(Owner::of("ns", "a=b").sentinel(SessionId::generate()))] {
            for in_between in [false, true] {
                let (cluster, mut seen) = cluster(json!({"app": "cart"}), true);
                if let Some(ours) = &ours {
                    seen.selector.insert(SENTINEL.to_owned(), ours.to_string());
                    cluster.change(CART, |cart| {
                        cart["spec"]["selector"][SENTINEL] = ours.to_string().into();
                    });
                }
                let (event, selector) = (if in_between { "PATCH" } else { "GET" }, foreign.clone());
                cluster.once_before(event, move |objects| {
                    objects.get_mut(CART).expect("there")["spec"]["selector"] = selector;
                });
                let done = match &ours {
                    None => adds(&cluster, &seen).await,
                    Some(_) => remove_key(&cluster.client(), &seen).await,
                };
                assert!(matches!(done, Err(ApplyError::Conflict { .. })), "{done:?}");
                assert_eq!(cluster.get(CART)["spec"]["selector"], foreign);
            }
        }
    }

    #[tokio::test]
    async fn no_key_is_put_on_a_service_whose_slice_is_gone() {
        let (cluster, seen) = cluster(json!({"app": "cart"}), false);
        let refused = adds(&cluster, &seen).await;
        assert!(matches!(refused, Err(ApplyError::Gone { .. })), "{refused:?}");
        assert_eq!(cluster.get(CART)["spec"]["selector"], json!({"app": "cart"}));
    }

    #[tokio::test]
    async fn a_service_that_was_made_again_is_not_patched() {
        let (cluster, seen) = cluster(json!({"app": "cart"}), true);
        cluster.change(CART, |cart| cart["metadata"]["uid"] = "u2".into());
        assert!(matches!(adds(&cluster, &seen).await, Err(ApplyError::Gone { .. })));
        assert_eq!(cluster.get(CART)["spec"]["selector"], json!({"app": "cart"}));
    }

    #[tokio::test]
    async fn an_entry_that_a_crash_left_behind_is_taken_out() {
        let (cluster, seen) = cluster(json!({"app": "cart"}), false);
        cluster.change(CART, |cart| {
            let fields = cart["metadata"]["managedFields"].as_array_mut().expect("fields");
            fields.push(json!({"manager": FIELD_MANAGER}));
        });
        write_back(&cluster.client(), &seen).await.expect("cleaned");
        assert_eq!(managers(&cluster.get(CART)), ["helm"]);
    }

    #[tokio::test]
    async fn a_trial_changes_nothing() {
        let (cluster, seen) = cluster(json!({"app": "cart"}), false);
        let before = cluster.get(CART);
        let sentinel = Owner::of("ns", "a=b").sentinel(SessionId::generate());
        try_key(&cluster.client(), &seen, &sentinel, &info()).await.expect("allowed");
        assert_eq!(cluster.get(CART), before);
    }

    fn info() -> Info {
        Info {
            by: "ada@example.test".into(),
            since: Timestamp::UNIX_EPOCH,
            agent_namespace: "fl".into(),
        }
    }
}
