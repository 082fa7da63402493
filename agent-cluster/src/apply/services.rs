//! The sentinel key of a Service: put on and taken off, and nothing else of a Service is ever changed. How that is written,
//! whoever else writes meanwhile, is in `services/pen.rs`.

mod pen;

use fairlead_model::ServiceRef;
use kube::{Client, ResourceExt};

use self::pen::{Change, Pen, api};
use super::{ApplyError, info::Info};
use crate::{
    names::Sentinel,
    seen::{ServiceSeen, is_our_entry},
};

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
    Pen::new(client, service, what).write_back().await
}

/// Names whoever wrote the Service last: who keeps removing the key.
pub(crate) async fn last_writer(client: &Client, service: &ServiceRef) -> Option<String> {
    let service = api(client, service).get(service.name.as_str()).await.ok()?;
    let of_others = service.managed_fields().iter().filter(|entry| !is_our_entry(entry));
    of_others.max_by_key(|entry| entry.time.as_ref().map(|t| t.0))?.manager.clone()
}

#[cfg(test)]
mod tests {
    use fairlead_model::SessionId;
    use jiff::Timestamp;
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        apply::fake::FakeCluster,
        made_up::{self, CART},
        names::{FIELD_MANAGER, Owner, SENTINEL},
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
