//! The key of a Service and its marks, as operations of a JSON patch. Pure: what becomes of them is in `services.rs`.

use k8s_openapi::{api::core::v1::Service, apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry};
use kube::ResourceExt;
use serde_json::{Value, json};

use super::{claims::Claim, info, pointer};
use crate::names::{INFO, INTERCEPTED, SENTINEL, Sentinel};

pub(super) fn sentinel_of(service: &Service) -> Option<&str> {
    service.spec.as_ref()?.selector.as_ref()?.get(SENTINEL).map(String::as_str)
}

/// Puts on the key, the label and the annotation.
pub(super) fn put_on(before: &Service, sentinel: &Sentinel, info: &str) -> Vec<Value> {
    let sentinel = sentinel.to_string();
    let mut operations = vec![add("/spec/selector", SENTINEL, &sentinel)];
    if before.metadata.labels.is_none() {
        operations.push(json!({"op": "add", "path": "/metadata/labels", "value": {}}));
    }
    operations.push(add("/metadata/labels", INTERCEPTED, &sentinel));
    operations.extend(annotate(before, info));
    operations
}

/// Takes the key off, and renews who owned the selector. The marks stay until the owners have it back.
pub(super) fn take_off(before: &Service, claims: &[Claim]) -> Vec<Value> {
    if sentinel_of(before).is_none() {
        return Vec::new();
    }
    let mut operations = vec![remove("/spec/selector", SENTINEL)];
    if info::remembered(before) != claims {
        operations.extend(annotate(before, &info::remembering(before, claims)));
    }
    operations
}

/// Takes off the label and the annotation, whichever of them are there.
pub(super) fn unmark(before: &Service) -> Vec<Value> {
    let label = before.labels().contains_key(INTERCEPTED);
    let annotation = before.annotations().contains_key(INFO);
    let label = label.then(|| remove("/metadata/labels", INTERCEPTED));
    label.into_iter().chain(annotation.then(|| remove("/metadata/annotations", INFO))).collect()
}

fn annotate(before: &Service, info: &str) -> Vec<Value> {
    let none = before.metadata.annotations.is_none();
    let empty = json!({"op": "add", "path": "/metadata/annotations", "value": {}});
    let empty = none.then_some(empty).into_iter();
    empty.chain([add("/metadata/annotations", INFO, info)]).collect()
}

/// Replaces `managedFields`. That nobody owns anything is said by a list of one empty entry; what an empty list says is
/// up to the API server's version.
pub(super) fn write_fields(fields: &[ManagedFieldsEntry]) -> Value {
    let fields = if fields.is_empty() { json!([{}]) } else { json!(fields) };
    json!({"op": "add", "path": "/metadata/managedFields", "value": fields})
}

fn add(map: &str, key: &str, value: &str) -> Value {
    json!({"op": "add", "path": format!("{map}/{}", pointer(key)), "value": value})
}

fn remove(map: &str, key: &str) -> Value {
    json!({"op": "remove", "path": format!("{map}/{}", pointer(key))})
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
            let keyed = service(applied(&before, put_on(&before, &sentinel, "{}")));
            assert!(keyed.spec.clone().unwrap().selector.unwrap().contains_key(SENTINEL));
            assert_eq!(keyed.labels().get(INTERCEPTED), Some(&sentinel.to_string()));
            let unkeyed = service(applied(&keyed, take_off(&keyed, &[])));
            assert_eq!(unkeyed.spec, before.spec);
            assert_eq!(unkeyed.labels(), keyed.labels(), "marked until it is whole again");
            let after = service(applied(&unkeyed, unmark(&unkeyed)));
            assert_eq!(after.labels(), before.labels());
            assert_eq!(after.annotations(), before.annotations());
        }
    }
}
