//! `managedFields` as the API server keeps them, as far as a change of a Service moves them: whoever writes a field
//! owns it, the selector is one field and has one owner then, and taking a field away makes nobody its owner.

use serde_json::{Value, json};

/// Has the fields follow an update by `manager`. Fields that come with the update are taken as they are first.
pub(super) fn follow(before: &Value, after: &mut Value, manager: &str) {
    let mut fields = match after["metadata"]["managedFields"].as_array() {
        Some(given) if !given.is_empty() => given.clone(),
        _ => before["metadata"]["managedFields"].as_array().cloned().unwrap_or_default(),
    };
    fields.retain(|entry| *entry != json!({}));
    let mut owned = json!({});
    for map in ["labels", "annotations"] {
        for (key, value) in after["metadata"][map].as_object().into_iter().flatten() {
            if before["metadata"][map][key] != *value {
                owned["f:metadata"][format!("f:{map}")][format!("f:{key}")] = json!({});
            }
        }
    }
    if before["spec"]["selector"] != after["spec"]["selector"] {
        fields.iter_mut().for_each(take_selector);
        fields.retain(|entry| entry["fieldsV1"] != json!({}));
        owned["f:spec"]["f:selector"] = json!({});
    }
    if owned != json!({}) {
        own(&mut fields, manager, owned);
    }
    let metadata = after["metadata"].as_object_mut().expect("metadata");
    metadata.remove("managedFields");
    if !fields.is_empty() {
        metadata.insert("managedFields".to_owned(), fields.into());
    }
}

fn take_selector(entry: &mut Value) {
    let spec = entry.pointer_mut("/fieldsV1/f:spec").and_then(Value::as_object_mut);
    let Some(spec) = spec else { return };
    spec.remove("f:selector");
    if spec.is_empty() {
        entry["fieldsV1"].as_object_mut().expect("fields").remove("f:spec");
    }
}

fn own(fields: &mut Vec<Value>, manager: &str, owned: Value) {
    let is_theirs =
        |entry: &&mut Value| entry["manager"] == manager && entry["operation"] == "Update";
    let Some(entry) = fields.iter_mut().find(is_theirs) else {
        let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        return fields.push(json!({
            "manager": manager, "operation": "Update", "apiVersion": "v1", "time": now,
            "fieldsType": "FieldsV1", "fieldsV1": owned,
        }));
    };
    for (part, names) in owned.as_object().expect("fields") {
        for (name, below) in names.as_object().expect("names") {
            entry["fieldsV1"][part][name] = below.clone();
        }
    }
}
