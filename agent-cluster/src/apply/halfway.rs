//! A writer that dies between its two patches, and whoever comes after it: in the end the Service is what it would be
//! had nobody died.

use fairlead_model::SessionId;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    ApplyError,
    fake::FakeCluster,
    info::Info,
    services::{add_key, remove_key, write_back},
};
use crate::{
    made_up::{self, CART},
    names::{FIELD_MANAGER, INFO, INTERCEPTED, Owner, SENTINEL},
    seen::ServiceSeen,
};

const SLICE: &str = "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices/fl-1-v4";

/// A Service whose selector two tools applied, and a third one's mark. And our slice.
fn cart() -> FakeCluster {
    let cluster = FakeCluster::default();
    let entry = |manager: &str, operation: &str, fields: Value| {
        json!({
            "manager": manager, "operation": operation, "apiVersion": "v1",
            "time": "2026-01-01T00:00:00Z", "fieldsType": "FieldsV1", "fieldsV1": fields,
        })
    };
    cluster.put(
        CART,
        json!({
            "metadata": {
                "name": "cart", "namespace": "shop", "uid": "u1", "labels": {"team": "shop"},
                "managedFields": [
                    entry("controller", "Update", json!({"f:metadata": {"f:labels": {"f:team": {}}}})),
                    entry("helm", "Apply", json!({"f:spec": {"f:ports": {}, "f:selector": {}}})),
                    entry("set", "Apply", json!({"f:spec": {"f:selector": {}}})),
                ],
            },
            "spec": {"selector": {"app": "cart"}},
        }),
    );
    cluster.put(SLICE, json!({"metadata": {"name": "fl-1-v4", "namespace": "shop"}}));
    cluster
}

fn seen(cluster: &FakeCluster) -> ServiceSeen {
    made_up::seen(cluster.get(CART))
}

async fn adds(cluster: &FakeCluster) -> Result<(), ApplyError> {
    let sentinel = Owner::of("ns", "a=b").sentinel(SessionId::generate());
    let by = "ada@example.test".to_owned();
    let info = Info { by, since: Timestamp::UNIX_EPOCH, agent_namespace: "fl".to_owned() };
    add_key(&cluster.client(), &seen(cluster), &sentinel, &info, "fl-1-v4").await
}

async fn removes(cluster: &FakeCluster) -> Result<(), ApplyError> {
    remove_key(&cluster.client(), &seen(cluster)).await
}

async fn writes_back(cluster: &FakeCluster) {
    write_back(&cluster.client(), &seen(cluster)).await.expect("written back");
}

/// Lets one more patch through; the next one does not arrive.
fn dies_after_one(cluster: &FakeCluster) {
    let mut made = 0;
    cluster.refuses(move |_| {
        made += 1;
        (made > 1).then_some(500)
    });
}

/// The Service but for what each write moves, and the order of owners, which the API server sorts.
fn content(cluster: &FakeCluster) -> Value {
    let mut cart = cluster.get(CART);
    cart["metadata"]["resourceVersion"].take();
    for map in ["labels", "annotations"] {
        if cart["metadata"][map] == json!({}) {
            cart["metadata"].as_object_mut().expect("metadata").remove(map);
        }
    }
    if let Some(fields) = cart["metadata"]["managedFields"].as_array_mut() {
        fields.sort_by_key(|entry| entry["manager"].to_string());
    }
    cart
}

fn fields(cluster: &FakeCluster) -> Value {
    content(cluster)["metadata"]["managedFields"].clone()
}

fn is_keyed(cluster: &FakeCluster) -> bool {
    cluster.get(CART)["spec"]["selector"][SENTINEL].is_string()
}

fn owners_of_selector(cluster: &FakeCluster) -> Vec<String> {
    let fields = fields(cluster);
    let owners = fields.as_array().into_iter().flatten();
    let owners = owners.filter(|entry| !entry["fieldsV1"]["f:spec"]["f:selector"].is_null());
    owners.map(|entry| entry["manager"].as_str().expect("named").to_owned()).collect()
}

#[tokio::test]
async fn a_key_without_its_write_back_is_finished() {
    let cluster = cart();
    let before = content(&cluster);
    dies_after_one(&cluster);
    adds(&cluster).await.expect_err("it dies");
    assert!(is_keyed(&cluster));
    assert_eq!(owners_of_selector(&cluster), [FIELD_MANAGER]);
    cluster.relents();
    writes_back(&cluster).await;
    assert!(is_keyed(&cluster));
    assert_eq!(fields(&cluster), before["metadata"]["managedFields"]);
    removes(&cluster).await.expect("given back");
    assert_eq!(content(&cluster), before);
}

#[tokio::test]
async fn a_key_that_was_half_put_on_is_put_on_anew_or_taken_off() {
    for again in [false, true] {
        let cluster = cart();
        let before = content(&cluster);
        dies_after_one(&cluster);
        adds(&cluster).await.expect_err("it dies");
        cluster.relents();
        if again {
            adds(&cluster).await.expect("for another session");
            assert_eq!(fields(&cluster), before["metadata"]["managedFields"]);
        }
        removes(&cluster).await.expect("given back");
        assert_eq!(content(&cluster), before);
    }
}

#[tokio::test]
async fn a_service_that_was_half_given_back_is_found_and_finished() {
    let cluster = cart();
    let before = content(&cluster);
    adds(&cluster).await.expect("keyed");
    dies_after_one(&cluster);
    removes(&cluster).await.expect_err("it dies");
    assert!(!is_keyed(&cluster));
    assert!(cluster.get(CART)["metadata"]["labels"][INTERCEPTED].is_string(), "nobody would know");
    assert_eq!(owners_of_selector(&cluster), [FIELD_MANAGER]);
    cluster.relents();
    removes(&cluster).await.expect("finished");
    assert_eq!(content(&cluster), before);
}

#[tokio::test]
async fn writers_that_die_one_after_the_other_lose_nothing() {
    let cluster = cart();
    let before = content(&cluster);
    for _ in 0..3 {
        dies_after_one(&cluster);
        adds(&cluster).await.expect_err("it dies");
        dies_after_one(&cluster);
        removes(&cluster).await.expect_err("it dies");
    }
    cluster.relents();
    removes(&cluster).await.expect("finished");
    assert_eq!(content(&cluster), before);
}

#[tokio::test]
async fn the_owner_of_the_moment_gets_the_selector_back_not_the_one_of_before() {
    let cluster = cart();
    adds(&cluster).await.expect("keyed");
    cluster.edits(CART, "kubectl-edit", |cart| cart["spec"]["selector"]["tier"] = "web".into());
    dies_after_one(&cluster);
    removes(&cluster).await.expect_err("it dies");
    cluster.relents();
    removes(&cluster).await.expect("finished");
    assert_eq!(owners_of_selector(&cluster), ["kubectl-edit"]);
    assert_eq!(cluster.get(CART)["spec"]["selector"], json!({"app": "cart", "tier": "web"}));
}

#[tokio::test]
async fn a_selector_that_somebody_took_meanwhile_is_left_to_them() {
    let cluster = cart();
    dies_after_one(&cluster);
    adds(&cluster).await.expect_err("it dies");
    cluster.relents();
    cluster.edits(CART, "kubectl-edit", |cart| cart["spec"]["selector"]["tier"] = "web".into());
    writes_back(&cluster).await;
    assert_eq!(owners_of_selector(&cluster), ["kubectl-edit"]);
}

#[tokio::test]
async fn an_owner_who_writes_between_the_two_patches_costs_the_others_nothing() {
    let cluster = cart();
    let owner = cluster.clone();
    let mut made = 0;
    cluster.refuses(move |_| {
        made += 1;
        (made == 2).then_some(409)
    });
    adds(&cluster).await.expect("finished on the version that it met");
    assert_eq!(owners_of_selector(&owner), ["helm", "set"]);
}

#[tokio::test]
async fn a_damaged_annotation_costs_the_claim_and_nothing_else() {
    for damaged in [
        json!("by ada"),
        json!("[[[["),
        json!(r#"{"selectorOwners": [{"manager": 7}]}"#),
        Value::Null,
    ] {
        let cluster = cart();
        dies_after_one(&cluster);
        adds(&cluster).await.expect_err("it dies");
        cluster.relents();
        cluster.change(CART, |cart| {
            let annotations = cart["metadata"]["annotations"].as_object_mut().expect("a map");
            annotations.remove(INFO);
            if damaged.is_string() {
                annotations.insert(INFO.to_owned(), damaged.clone());
            }
        });
        removes(&cluster).await.expect("given back");
        assert!(!is_keyed(&cluster));
        assert_eq!(owners_of_selector(&cluster), Vec::<String>::new());
        let cart = content(&cluster);
        assert_eq!(cart["metadata"]["labels"], json!({"team": "shop"}));
        assert_eq!(cart["metadata"]["annotations"], Value::Null);
    }
}

#[tokio::test]
async fn an_annotation_that_the_api_does_not_take_keeps_no_service_from_being_given_back() {
    for code in [422, 403] {
        let cluster = cart();
        adds(&cluster).await.expect("keyed");
        cluster.edits(CART, "kubectl-edit", |cart| cart["spec"]["selector"]["tier"] = "web".into());
        let told = cluster.get(CART)["metadata"]["annotations"][INFO].clone();
        cluster.refuses(move |cart| {
            let now = &cart["metadata"]["annotations"][INFO];
            (now.is_string() && *now != told).then_some(code)
        });
        removes(&cluster).await.expect("given back");
        assert_eq!(owners_of_selector(&cluster), ["kubectl-edit"]);
        assert_eq!(cluster.get(CART)["metadata"]["annotations"], json!({}));
    }
}

#[tokio::test]
async fn a_service_whose_fields_nobody_owns_bears_none_of_ours() {
    let cluster = cart();
    cluster.change(CART, |cart| {
        cart["metadata"].as_object_mut().expect("metadata").remove("managedFields");
    });
    let before = content(&cluster);
    adds(&cluster).await.expect("keyed");
    assert_eq!(fields(&cluster), Value::Null);
    removes(&cluster).await.expect("given back");
    assert_eq!(content(&cluster), before);
}
