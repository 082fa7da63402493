//! Who owns a Service's selector in `managedFields`, and how they get it back after a change of ours took it. Why
//! their claims are written down with the change (`info.rs`) is told in `docs/decisions/0001-one-selector-key.md`.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry, Time};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{names::FIELD_MANAGER, seen::is_our_entry};

/// Several own a selector only where each of them applied the same one; of more than this the first are remembered.
const CLAIMS_MAX: usize = 16;
/// The longest name that the API takes, in bytes.
const MANAGER_MAX: usize = 128;
/// A Service has no other version, and none of its subresources has a selector.
const VERSION: &str = "v1";

/// One owner of the selector. What else the entry owns is not remembered: no change of ours takes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Claim {
    manager: String,
    operation: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    time: Option<Time>,
}

/// Lists who owns the selector, ourselves left out.
pub(super) fn claims(fields: &[ManagedFieldsEntry]) -> Vec<Claim> {
    let owners = fields.iter().filter(|entry| owns_selector(entry) && !is_our_entry(entry));
    owners.filter_map(Claim::of).take(CLAIMS_MAX).collect()
}

/// Reads claims from what may be anything: somebody can have written there.
pub(super) fn readable(claims: &Value) -> Vec<Claim> {
    let claims = claims.as_array().into_iter().flatten();
    let claims = claims.filter_map(|claim| Claim::deserialize(claim).ok());
    claims.filter(Claim::is_acceptable).take(CLAIMS_MAX).collect()
}

/// Returns `fields` without us. If it was us who owned the selector, it goes back to whom `claims` name; if somebody
/// took it since, it is theirs.
pub(super) fn without_us(
    fields: &[ManagedFieldsEntry],
    claims: &[Claim],
) -> Vec<ManagedFieldsEntry> {
    let mut others: Vec<_> = fields.iter().filter(|entry| !is_our_entry(entry)).cloned().collect();
    let we_own = fields.iter().any(|entry| is_our_entry(entry) && owns_selector(entry));
    if we_own && !others.iter().any(owns_selector) {
        for claim in claims {
            claim.returns_to(&mut others);
        }
    }
    others
}

impl Claim {
    fn of(entry: &ManagedFieldsEntry) -> Option<Self> {
        let claim = Self {
            manager: entry.manager.clone()?,
            operation: entry.operation.clone()?,
            time: entry.time.clone(),
        };
        Some(claim).filter(|claim| claim.names(entry) && claim.is_acceptable())
    }

    /// Says whether the API would take the claim: with one that it refuses, nothing would be written back.
    fn is_acceptable(&self) -> bool {
        let is_name = |name: &str| {
            let printable = name.bytes().all(|byte| matches!(byte, b' '..=b'~'));
            printable && (1..=MANAGER_MAX).contains(&name.len()) && name != FIELD_MANAGER
        };
        // A year before the first is written with a sign, which is no date to the API.
        let is_date = |time: &Time| time.0 >= Timestamp::UNIX_EPOCH;
        is_name(&self.manager)
            && matches!(self.operation.as_str(), "Apply" | "Update")
            && self.time.as_ref().is_none_or(is_date)
    }

    /// Says whether `entry` is this owner's, whatever was written in it since.
    fn names(&self, entry: &ManagedFieldsEntry) -> bool {
        entry.manager.as_deref() == Some(self.manager.as_str())
            && entry.operation.as_deref() == Some(self.operation.as_str())
            && entry.api_version.as_deref() == Some(VERSION)
            && entry.subresource.as_deref().unwrap_or_default().is_empty()
    }

    /// An owner without an entry owned nothing but the selector: the API keeps no empty one.
    fn returns_to(&self, fields: &mut Vec<ManagedFieldsEntry>) {
        if let Some(entry) = fields.iter_mut().find(|entry| self.names(entry)) {
            return add_selector(entry);
        }
        let mut entry = ManagedFieldsEntry {
            api_version: Some(VERSION.to_owned()),
            fields_type: Some("FieldsV1".to_owned()),
            manager: Some(self.manager.clone()),
            operation: Some(self.operation.clone()),
            time: self.time.clone(),
            ..ManagedFieldsEntry::default()
        };
        add_selector(&mut entry);
        fields.push(entry);
    }
}

fn owns_selector(entry: &ManagedFieldsEntry) -> bool {
    let owned = entry.fields_v1.as_ref().and_then(|fields| fields.0.get("f:spec"));
    owned.and_then(|spec| spec.get("f:selector")).is_some()
}

fn add_selector(entry: &mut ManagedFieldsEntry) {
    let empty = || Value::Object(Map::new());
    let fields = entry.fields_v1.get_or_insert_with(|| FieldsV1(empty()));
    let spec = fields.0.as_object_mut().map(|all| all.entry("f:spec").or_insert_with(empty));
    if let Some(spec) = spec.and_then(Value::as_object_mut) {
        spec.insert("f:selector".to_owned(), empty());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn entries(entries: Value) -> Vec<ManagedFieldsEntry> {
        serde_json::from_value(entries).expect("managedFields")
    }

    fn entry(manager: &str, operation: &str, minute: u8, fields: Value) -> Value {
        json!({
            "manager": manager, "operation": operation, "apiVersion": "v1", "fieldsType": "FieldsV1",
            "time": format!("2026-01-01T00:{minute:02}:00Z"), "fieldsV1": fields,
        })
    }

    fn before() -> Vec<ManagedFieldsEntry> {
        entries(json!([
            entry("helm", "Apply", 1, json!({"f:spec": {"f:ports": {}, "f:selector": {}}})),
            entry("kubectl-set", "Update", 2, json!({"f:spec": {"f:selector": {}}})),
            entry("controller", "Update", 3, json!({"f:status": {}})),
        ]))
    }

    fn ours() -> Value {
        entry(FIELD_MANAGER, "Update", 9, json!({"f:spec": {"f:selector": {}}}))
    }

    /// What our change makes of `before`.
    fn taken() -> Vec<ManagedFieldsEntry> {
        entries(json!([
            entry("helm", "Apply", 1, json!({"f:spec": {"f:ports": {}}})),
            entry("controller", "Update", 3, json!({"f:status": {}})),
            ours(),
        ]))
    }

    fn sorted(mut fields: Vec<ManagedFieldsEntry>) -> Vec<ManagedFieldsEntry> {
        fields.sort_by(|a, b| a.time.cmp(&b.time));
        fields
    }

    #[test]
    fn owners_get_back_what_our_change_took() {
        assert_eq!(sorted(without_us(&taken(), &claims(&before()))), before());
    }

    #[test]
    fn an_owner_who_wrote_something_else_since_gets_the_selector_back_as_well() {
        let since = entry("helm", "Apply", 5, json!({"f:spec": {"f:ports": {}, "f:type": {}}}));
        let got = without_us(&entries(json!([since, ours()])), &claims(&before()));
        let whole = json!({"f:spec": {"f:ports": {}, "f:type": {}, "f:selector": {}}});
        assert_eq!(got[0], entries(json!([entry("helm", "Apply", 5, whole)]))[0]);
    }

    #[test]
    fn whoever_took_the_selector_since_keeps_it_alone() {
        let theirs = entry("argo", "Apply", 5, json!({"f:spec": {"f:selector": {}}}));
        let got = without_us(&entries(json!([theirs.clone(), ours()])), &claims(&before()));
        assert_eq!(got, entries(json!([theirs])));
    }

    #[test]
    fn old_claims_mean_nothing_where_no_change_of_ours_is_open() {
        let nobody = entries(json!([entry("controller", "Update", 3, json!({"f:status": {}}))]));
        assert_eq!(without_us(&nobody, &claims(&before())), nobody);
    }

    #[test]
    fn a_claim_survives_being_written_down() {
        let claims = claims(&before());
        assert_eq!(claims.len(), 2);
        assert_eq!(readable(&serde_json::to_value(&claims).expect("JSON")), claims);
    }

    #[test]
    fn only_what_the_api_would_take_is_read() {
        let claim =
            |manager: &str, operation: &str| json!({"manager": manager, "operation": operation});
        let long = "x".repeat(MANAGER_MAX + 1);
        let bad = json!([
            claim("helm", "Delete"), claim("", "Apply"), claim(&long, "Apply"), claim("a\nb", "Apply"),
            claim(FIELD_MANAGER, "Update"), 7, null, {"manager": "helm"},
            {"manager": "helm", "operation": "Apply", "time": "yesterday"},
            {"manager": "helm", "operation": "Apply", "time": "-000001-01-01T00:00:00Z"},
        ]);
        assert_eq!(readable(&bad), []);
        assert_eq!(readable(&json!("text")), []);
        let many = Value::Array(vec![claim("helm", "Apply"); CLAIMS_MAX + 1]);
        assert_eq!(readable(&many).len(), CLAIMS_MAX);
    }
}
