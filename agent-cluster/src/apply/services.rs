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
use kube::{Api, Client, ResourceExt, api::PatchParams};
use serde_json::{Value, json};

use super::{ApplyError, json_patch, pointer};
use crate::names::{FIELD_MANAGER, INFO, INTERCEPTED, SENTINEL, Sentinel};

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

/// Puts the key on. With `dry_run` nothing changes, and the error says what the API would refuse.
pub(crate) async fn add_key(
    client: &Client,
    service: &ServiceRef,
    uid: &str,
    sentinel: &Sentinel,
    info: &Info,
    dry_run: bool,
) -> Result<(), ApplyError> {
    let what = format!("could not redirect {service}");
    let api = api(client, service);
    let name = service.name.as_str();
    let before = api.get(name).await.map_err(|e| ApplyError::from_api(&what, e))?;
    let patch =
        json_patch(Value::Array(key_operations(&before, uid, sentinel, &info.to_json(service))));
    let params = PatchParams { dry_run, ..PatchParams::apply(FIELD_MANAGER) };
    let after =
        api.patch(name, &params, &patch).await.map_err(|e| ApplyError::from_api(&what, e))?;
    if dry_run { Ok(()) } else { write_back(&api, &before, &after, &what).await }
}

/// Takes the key, the label and the annotation off, whichever of them are there.
pub(crate) async fn remove_key(
    client: &Client,
    service: &ServiceRef,
    uid: &str,
) -> Result<(), ApplyError> {
    let what = format!("could not give {service} back");
    let api = api(client, service);
    let name = service.name.as_str();
    let before = api.get(name).await.map_err(|e| ApplyError::from_api(&what, e))?;
    let operations = unkey_operations(&before, uid);
    if operations.len() == 1 {
        return Ok(());
    }
    let params =
        PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    let after = api
        .patch(name, &params, &json_patch(Value::Array(operations)))
        .await
        .map_err(|e| ApplyError::from_api(&what, e))?;
    write_back(&api, &before, &after, &what).await
}

/// Names whoever wrote the Service last: who keeps removing the key.
pub(crate) async fn last_writer(client: &Client, service: &ServiceRef) -> Option<String> {
    let service = api(client, service).get(service.name.as_str()).await.ok()?;
    let of_others = service.managed_fields().iter().filter(|entry| !is_ours(entry));
    of_others.max_by_key(|entry| entry.time.as_ref().map(|t| t.0))?.manager.clone()
}

fn api(client: &Client, service: &ServiceRef) -> Api<Service> {
    Api::namespaced(client.clone(), service.namespace.as_str())
}

fn key_operations(before: &Service, uid: &str, sentinel: &Sentinel, info: &str) -> Vec<Value> {
    let mut operations = vec![json!({"op": "test", "path": "/metadata/uid", "value": uid})];
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

fn unkey_operations(before: &Service, uid: &str) -> Vec<Value> {
    let mut operations = vec![json!({"op": "test", "path": "/metadata/uid", "value": uid})];
    let mut remove = |present: bool, map: &str, key: &str| {
        if present {
            operations.push(json!({"op": "remove", "path": format!("{map}/{}", pointer(key))}));
        }
    };
    let selector = before.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    remove(selector.is_some_and(|s| s.contains_key(SENTINEL)), "/spec/selector", SENTINEL);
    remove(before.labels().contains_key(INTERCEPTED), "/metadata/labels", INTERCEPTED);
    remove(before.annotations().contains_key(INFO), "/metadata/annotations", INFO);
    operations
}

/// Writes the `managedFields` of before back, unless somebody wrote in between: then only our own entry goes.
async fn write_back(
    api: &Api<Service>,
    before: &Service,
    after: &Service,
    what: &str,
) -> Result<(), ApplyError> {
    const TRIES: usize = 3;
    let mut current = after.clone();
    let mut fields = without_ours(before.managed_fields());
    for _ in 0..TRIES {
        let patch = json_patch(json!([
            {"op": "test", "path": "/metadata/resourceVersion", "value": current.resource_version()},
            {"op": "replace", "path": "/metadata/managedFields", "value": fields},
        ]));
        let params =
            PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        match api.patch(&current.name_any(), &params, &patch).await {
            Ok(_) => return Ok(()),
            Err(kube::Error::Api(status)) if matches!(status.code, 409 | 422) => {
                current = api
                    .get(&current.name_any())
                    .await
                    .map_err(|e| ApplyError::from_api(what, e))?;
                fields = without_ours(current.managed_fields());
            }
            Err(error) => return Err(ApplyError::from_api(what, error)),
        }
    }
    Err(ApplyError::Conflict { what: what.to_owned() })
}

fn is_ours(entry: &ManagedFieldsEntry) -> bool {
    entry.manager.as_deref() == Some(FIELD_MANAGER)
}

fn without_ours(fields: &[ManagedFieldsEntry]) -> Vec<ManagedFieldsEntry> {
    fields.iter().filter(|entry| !is_ours(entry)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use fairlead_model::SessionId;

    use super::*;
    use crate::names::Owner;

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
            let keyed = service(applied(&before, key_operations(&before, "u1", &sentinel, "{}")));
            assert!(keyed.spec.clone().unwrap().selector.unwrap().contains_key(SENTINEL));
            assert_eq!(keyed.labels().get(INTERCEPTED), Some(&sentinel.to_string()));
            let after = service(applied(&keyed, unkey_operations(&keyed, "u1")));
            assert_eq!(after.spec, before.spec);
            assert_eq!(after.labels(), before.labels());
            assert_eq!(after.annotations(), before.annotations());
        }
    }

    #[test]
    fn the_annotation_carries_a_line_that_restores_by_hand() {
        let info = Info {
            by: "ada@example.test".into(),
            since: Timestamp::UNIX_EPOCH,
            agent_namespace: "fl".into(),
        };
        let text = info.to_json(&"shop/cart".parse().expect("valid"));
        assert!(text.contains("kubectl -n shop patch service cart"), "{text}");
        assert!(text.contains("fairlead.dev~1intercept"), "{text}");
    }
}
