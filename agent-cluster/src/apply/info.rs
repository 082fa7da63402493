//! The annotation of an intercepted Service. It tells people who find the key who put it there and how to take it off;
//! and it tells a writer who finds a change that another one did not finish, who owned the selector before.

use fairlead_model::ServiceRef;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt;
use serde_json::{Map, Value, json};

use super::{
    claims::{Claim, readable},
    pointer,
};
use crate::names::{INFO, SENTINEL};

const OWNERS: &str = "selectorOwners";
/// All annotations of an object share 256 KiB. A text that somebody made longer than this is given up.
const TEXT_MAX: usize = 64 * 1024;

/// What the annotation tells a person.
#[derive(Clone, Debug)]
pub(crate) struct Info {
    pub(crate) by: String,
    pub(crate) since: Timestamp,
    pub(crate) agent_namespace: String,
}

impl Info {
    pub(super) fn text(&self, service: &ServiceRef, claims: &[Claim]) -> String {
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
            OWNERS: claims,
        })
        .to_string()
    }
}

/// Returns the claims that the annotation carries; none where it is missing or damaged.
pub(super) fn remembered(service: &Service) -> Vec<Claim> {
    document(service).get(OWNERS).map(readable).unwrap_or_default()
}

/// Returns the annotation with other claims; what it tells people stays.
pub(super) fn remembering(service: &Service, claims: &[Claim]) -> String {
    let mut document = document(service);
    document.insert(OWNERS.to_owned(), json!(claims));
    Value::Object(document).to_string()
}

fn document(service: &Service) -> Map<String, Value> {
    let text = service.annotations().get(INFO).filter(|text| text.len() <= TEXT_MAX);
    text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::claims::claims;

    fn annotated(text: &str) -> Service {
        serde_json::from_value(json!({"metadata": {"annotations": {INFO: text}}})).expect("valid")
    }

    fn helm() -> Vec<Claim> {
        let entry = json!([{
            "manager": "helm", "operation": "Apply", "apiVersion": "v1", "time": "2026-01-01T00:00:00Z",
            "fieldsV1": {"f:spec": {"f:selector": {}}},
        }]);
        claims(&serde_json::from_value::<Vec<_>>(entry).expect("managedFields"))
    }

    fn text() -> String {
        let info = Info {
            by: "ada@example.test".into(),
            since: Timestamp::UNIX_EPOCH,
            agent_namespace: "fl".into(),
        };
        info.text(&"shop/cart".parse().expect("valid"), &helm())
    }

    #[test]
    fn it_carries_a_line_that_restores_by_hand() {
        assert!(text().contains("kubectl -n shop patch service cart"), "{}", text());
        assert!(text().contains("fairlead.dev~1intercept"), "{}", text());
    }

    #[test]
    fn other_claims_leave_what_it_tells_people() {
        assert_eq!(remembered(&annotated(&text())), helm());
        let forgotten = annotated(&remembering(&annotated(&text()), &[]));
        assert_eq!(remembered(&forgotten), []);
        assert_eq!(remembering(&forgotten, &helm()), text());
    }

    #[test]
    fn a_damaged_annotation_is_none() {
        let long = text().replace("ada", &"a".repeat(TEXT_MAX));
        for damaged in ["", "by ada", "[1]", r#"{"selectorOwners": {"helm": 1}}"#, &long] {
            let service = annotated(damaged);
            assert_eq!(remembered(&service), [], "{damaged:.40}");
            assert_eq!(remembered(&annotated(&remembering(&service, &helm()))), helm());
        }
    }
}
