//! The sentinel key of a Service: put on and taken off, and nothing else of a Service is ever changed.
//!
//! After each patch the `managedFields` of before are written back. The owner then goes on owning `.spec.selector`,
//! so that an unforced `kubectl apply --server-side` or a Helm 4 upgrade meets no conflict, and a Service that was
//! given back equals what it was.
#![expect(
    clippy::disallowed_methods,
    reason = "one of the files of apply/, the only place that changes Kubernetes"
)]

use fairlead_model::ServiceRef;
use jiff::Timestamp;
use k8s_openapi::{api::core::v1::Service, apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry};
use kube::{
    Api, Client, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use super::{ApplyError, json_patch, pointer, slices};
use crate::{
    names::{FIELD_MANAGER, INFO, INTERCEPTED, SENTINEL, Sentinel},
    seen::{ServiceSeen, is_our_entry},
};

/// So often a Service is read again because somebody else wrote it in between.
const TRIES: usize = 5;

/// What the annotation tells a person who finds the key.
#[derive(Clone, Debug)]
pub(crate) struct Info {
    pub(crate) by: String,
    pub(crate) since: Timestamp,
    pub(crate) agent_namespace: String,
}

impl Info {
    fn to_json(&self, service: &ServiceRef) -> String {
        let ServiceRef { namespace, name } = service;
        let restore = format!(
            "kubectl -n {namespace} patch service {name} --type=json -p \
             '[{{\"op\":\"remove\",\"path\":\"/spec/selector/{}\"}}]'",
            pointer(SENTINEL)
        );
        json!({
            "by": self.by,
            "since": self.since.to_string(),
            "agent": self.agent_namespace,
            "restore": restore,
        })
        .to_string()
    }
}

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
    let change = Change::Add { sentinel, info, slice };
    make(client, service, &format!("could not redirect {}", service.service), change).await
}

/// Asks the API whether it would take the key; nothing changes, and the error says what it would refuse.
pub(crate) async fn try_key(
    client: &Client,
    service: &ServiceSeen,
    sentinel: &Sentinel,
    info: &Info,
) -> Result<(), ApplyError> {
    let change = Change::Try { sentinel, info };
    make(client, service, &format!("could not redirect {}", service.service), change).await
}

/// Takes the key, the label and the annotation off, whichever of them are there. A key other than the one that was
/// seen stays.
pub(crate) async fn remove_key(client: &Client, service: &ServiceSeen) -> Result<(), ApplyError> {
    make(client, service, &format!("could not give {} back", service.service), Change::Remove).await
}

/// Takes our entry out of `managedFields`, should a patch of ours have been the last thing its writer did.
pub(crate) async fn write_back(client: &Client, service: &ServiceSeen) -> Result<(), ApplyError> {
    let what = format!("could not clean up after a change of {}", service.service);
    let api = api(client, &service.service);
    let current = read(&api, service, &what).await?;
    if !current.managed_fields().iter().any(is_our_entry) {
        return Ok(());
    }
    restore_fields(&api, without_ours(current.managed_fields()), current, &what).await
}

/// What may be done with the key.
enum Change<'a> {
    Add { sentinel: &'a Sentinel, info: &'a Info, slice: &'a str },
    Try { sentinel: &'a Sentinel, info: &'a Info },
    Remove,
}

impl Change<'_> {
    /// Lists what the patch changes, given the Service as it is.
    fn operations(&self, before: &Service, name: &ServiceRef) -> Vec<Value> {
        match self {
            Self::Add { sentinel, info, .. } | Self::Try { sentinel, info } => {
                key_operations(before, sentinel, &info.to_json(name))
            }
            Self::Remove => unkey_operations(before),
        }
    }
}

/// Reads the Service, checks that it is the one that was seen, and patches that very version of it. Somebody who
/// writes in between is read again, not written over.
async fn make(
    client: &Client,
    service: &ServiceSeen,
    what: &str,
    change: Change<'_>,
) -> Result<(), ApplyError> {
    let api = api(client, &service.service);
    let name = service.service.name.as_str();
    let dry_run = matches!(change, Change::Try { .. });
    let params = PatchParams { dry_run, ..PatchParams::apply(FIELD_MANAGER) };
    let mut last = ApplyError::Conflict { what: what.to_owned() };
    for _ in 0..TRIES {
        let before = read(&api, service, what).await?;
        if sentinel_of(&before) != service.sentinel() {
            return Err(ApplyError::Conflict { what: what.to_owned() });
        }
        if let Change::Add { slice, .. } = change {
            slices::must_stand(client, &service.service, slice, what).await?;
        }
        let operations = change.operations(&before, &service.service);
        if operations.is_empty() {
            return write_back(client, service).await;
        }
        match api.patch(name, &params, &of_version(&before, operations)).await {
            Ok(_) if dry_run => return Ok(()),
            Ok(after) => {
                return restore_fields(&api, without_ours(before.managed_fields()), after, what)
                    .await;
            }
            Err(error) if has_moved_on(&error) => last = ApplyError::from_api(what, error),
            Err(error) => return Err(ApplyError::from_api(what, error)),
        }
    }
    Err(last)
}

async fn read(api: &Api<Service>, seen: &ServiceSeen, what: &str) -> Result<Service, ApplyError> {
    let name = seen.service.name.as_str();
    let service = api.get(name).await.map_err(|e| ApplyError::from_api(what, e))?;
    match service.uid() {
        Some(uid) if uid == seen.uid => Ok(service),
        _ => Err(ApplyError::Gone { what: what.to_owned() }),
    }
}

fn sentinel_of(service: &Service) -> Option<&str> {
    service.spec.as_ref()?.selector.as_ref()?.get(SENTINEL).map(String::as_str)
}

/// A `test` that fails makes the patch invalid (422); two patches at the same moment conflict (409).
fn has_moved_on(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if matches!(status.code, 409 | 422))
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

fn key_operations(before: &Service, sentinel: &Sentinel, info: &str) -> Vec<Value> {
    let mut operations = Vec::new();
    if before.metadata.labels.is_none() {
        operations.push(json!({"op": "add", "path": "/metadata/labels", "value": {}}));
    }
    if before.metadata.annotations.is_none() {
        operations.push(json!({"op": "add", "path": "/metadata/annotations", "value": {}}));
    }
    let mut add = |map: &str, key: &str, value: &str| {
        operations
            .push(json!({"op": "add", "path": format!("{map}/{}", pointer(key)), "value": value}));
    };
    add("/spec/selector", SENTINEL, &sentinel.to_string());
    add("/metadata/labels", INTERCEPTED, &sentinel.to_string());
    add("/metadata/annotations", INFO, info);
    operations
}

fn unkey_operations(before: &Service) -> Vec<Value> {
    let mut operations = Vec::new();
    let mut remove = |present: bool, map: &str, key: &str| {
        if present {
            operations.push(json!({"op": "remove", "path": format!("{map}/{}", pointer(key))}));
        }
    };
    remove(sentinel_of(before).is_some(), "/spec/selector", SENTINEL);
    remove(before.labels().contains_key(INTERCEPTED), "/metadata/labels", INTERCEPTED);
    remove(before.annotations().contains_key(INFO), "/metadata/annotations", INFO);
    operations
}

/// Writes `fields` to the Service as it is in `current`, unless somebody wrote in between: then only our entry goes.
async fn restore_fields(
    api: &Api<Service>,
    mut fields: Vec<ManagedFieldsEntry>,
    mut current: Service,
    what: &str,
) -> Result<(), ApplyError> {
    let params =
        PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    for _ in 0..TRIES {
        let replace = json!({"op": "replace", "path": "/metadata/managedFields", "value": fields});
        let name = current.name_any();
        match api.patch(&name, &params, &of_version(&current, vec![replace])).await {
            Ok(_) => return Ok(()),
            Err(error) if has_moved_on(&error) => {
                current = api.get(&name).await.map_err(|e| ApplyError::from_api(what, e))?;
                fields = without_ours(current.managed_fields());
            }
            Err(error) => return Err(ApplyError::from_api(what, error)),
        }
    }
    Err(ApplyError::Conflict { what: what.to_owned() })
}

fn without_ours(fields: &[ManagedFieldsEntry]) -> Vec<ManagedFieldsEntry> {
    fields.iter().filter(|entry| !is_our_entry(entry)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use fairlead_model::SessionId;

    use super::*;
    use crate::{apply::fake::FakeCluster, names::Owner};

    fn service(value: Value) -> Service {
        serde_json::from_value(value).expect("a Service")
    }

    fn applied(service: &Service, operations: Vec<Value>) -> Value {
        let patch: json_patch::Patch =
            serde_json::from_value(Value::Array(operations)).expect("a patch");
        let mut document = serde_json::to_value(service).expect("JSON");
        json_patch::patch(&mut document, &patch).expect("applies");
        document
    }

    #[test]
    fn taking_the_key_off_undoes_putting_it_on() {
        for metadata in [
            json!({"name": "cart", "uid": "u1"}),
            json!({"name": "cart", "uid": "u1", "labels": {"team": "a/b~c"}, "annotations": {"x": "y"}}),
        ] {
            let before =
                service(json!({"metadata": metadata, "spec": {"selector": {"app": "cart"}}}));
            let sentinel = Owner::of("ns", "a=b").sentinel(SessionId::generate());
            let keyed = service(applied(&before, key_operations(&before, &sentinel, "{}")));
            assert!(keyed.spec.clone().unwrap().selector.unwrap().contains_key(SENTINEL));
            assert_eq!(keyed.labels().get(INTERCEPTED), Some(&sentinel.to_string()));
            let after = service(applied(&keyed, unkey_operations(&keyed)));
            assert_eq!(after.spec, before.spec);
            assert_eq!(after.labels(), before.labels());
            assert_eq!(after.annotations(), before.annotations());
        }
    }

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
        (cluster, ServiceSeen::from_object(&service(object)).expect("readable"))
    }

    const CART: &str = "/api/v1/namespaces/shop/services/cart";
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
        let seen = ServiceSeen::from_object(&service(keyed)).expect("readable");
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

    #[test]
    fn the_annotation_carries_a_line_that_restores_by_hand() {
        let text = info().to_json(&"shop/cart".parse().expect("valid"));
        assert!(text.contains("kubectl -n shop patch service cart"), "{text}");
        assert!(text.contains("fairlead.dev~1intercept"), "{text}");
    }
}
