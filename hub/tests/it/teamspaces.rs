//! A teamspace from its making to its end, and every way in which a cluster does not join it.

use std::time::Duration;

use fairlead_model::Token;
use fairlead_wire::link::v1::EnrolRequest;
use hub_store::Enrolment;
use serde_json::json;
use tonic::Code;

use crate::{
    peers::{Cluster, enrol},
    world::{World, eventually},
};

#[tokio::test]
async fn a_cluster_joins_and_its_services_are_listed() {
    let world = World::new().await;
    let olga = world.person("olga", "owners").await;
    let staging = world.teamspace(&olga, "staging", &["shop/cart", "shop/catalog"]).await;
    let shown = olga.get(&world, &format!("/api/v1/teamspaces/{}", staging.id)).await.with(200);
    assert_eq!(shown["status"], "connected");
    assert_eq!(shown["services"], 2);
    assert_eq!(shown["replicas"][0]["name"], crate::peers::POD);
    assert_eq!(shown["key_thumbprint"], staging.cluster.authority.thumbprint().to_string());
}

#[tokio::test]
async fn a_service_that_is_deleted_leaves_the_list() {
    let world = World::new().await;
    let olga = world.person("olga", "owners").await;
    let staging = world.teamspace(&olga, "staging", &["shop/cart", "shop/catalog"]).await;
    staging.agent.reports(&["shop/catalog"]).await;
    let path = format!("/api/v1/teamspaces/{}/services", staging.id);
    eventually("one service", async || {
        let listed = olga.get(&world, &path).await.with(200);
        let services = listed["services"].as_array()?;
        (services.len() == 1 && services[0]["name"] == "catalog").then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_agent_that_is_lost_is_shown_as_disconnected() {
    let world = World::new().await;
    let olga = world.person("olga", "owners").await;
    let staging = world.teamspace(&olga, "staging", &[]).await;
    drop(staging.agent);
    let path = format!("/api/v1/teamspaces/{}", staging.id);
    eventually("the loss to be seen", async || {
        let shown = olga.get(&world, &path).await.with(200);
        (shown["status"] == "disconnected").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_name_is_taken_once() {
    let world = World::new().await;
    let olga = world.person("olga", "owners").await;
    let new = json!({ "name": "staging" });
    olga.post(&world, "/api/v1/teamspaces", new.clone()).await.with(201);
    let answer = olga.post(&world, "/api/v1/teamspaces", new).await;
    assert_eq!(answer.message(), "there is a teamspace `staging` already");
    answer.with(409);
    olga.post(&world, "/api/v1/teamspaces", json!({ "name": "No Name" })).await.with(400);
}

#[tokio::test]
async fn another_organizations_teamspace_does_not_exist() {
    let world = World::new().await;
    let olga = world.person("olga", "owners").await;
    let staging = world.teamspace(&olga, "staging", &["shop/cart"]).await;
    let rival = world.organization("rival").await;
    let mallory = world.person_of(&rival, "mallory", &["owners"]).await;
    let path = format!("/api/v1/teamspaces/{}", staging.id);
    mallory.get(&world, &path).await.with(404);
    mallory.delete(&world, &path).await.with(404);
    mallory.get(&world, &format!("{path}/services")).await.with(404);
    mallory.consumes(&world, staging.id, &["shop/*"]).await.with(404);
    mallory.intercepts(&world, staging.id, "shop/cart").await.with(404);
    let listed = mallory.get(&world, "/api/v1/teamspaces").await.with(200);
    assert_eq!(listed["teamspaces"], json!([]));
}

#[tokio::test]
async fn a_deleted_teamspace_keeps_no_link() {
    let world = World::new().await;
    let olga = world.person("olga", "owners").await;
    let mut staging = world.teamspace(&olga, "staging", &[]).await;
    olga.delete(&world, &format!("/api/v1/teamspaces/{}", staging.id)).await.with(204);
    staging.agent.is_ended().await;
    let refused = staging.cluster.connect(&world).await.err().expect("the key is unknown");
    assert_eq!(refused.code(), Code::NotFound);
}

async fn refusal(world: &World, request: EnrolRequest) -> String {
    enrol(world, request).await.expect_err("refused").message().to_owned()
}

#[tokio::test]
async fn every_join_token_that_does_not_count_says_why() {
    let world = World::new().await;
    let olga = world.person("olga", "owners").await;
    let (_, token) = world.waiting_teamspace(&olga, "staging").await;
    let cluster = Cluster::new(&world, "one");
    let with = |token: &str| cluster.request(&world, token);

    let unknown = format!("flj_{}", "A".repeat(43));
    assert!(refusal(&world, with(&unknown)).await.contains("does not know this join token"));
    let other_kind = token.replace("flj_", "fla_");
    assert!(refusal(&world, with(&other_kind)).await.contains("another kind"));
    assert!(refusal(&world, with("nonsense")).await.contains("not a Fairlead token"));

    let hour_behind = EnrolRequest { agent_time_s: world.now().as_second() - 3600, ..with(&token) };
    assert!(refusal(&world, hour_behind).await.contains("3600 s behind"));

    let long_uid = EnrolRequest { cluster_uid: "u".repeat(201), ..with(&token) };
    assert!(refusal(&world, long_uid).await.contains("longer than 200 bytes"));

    cluster.enrol(&world, &token).await.expect("enrolled");
    let second = Cluster::new(&world, "two");
    assert!(refusal(&world, second.request(&world, &token)).await.contains("used already"));

    let (_, late) = world.waiting_teamspace(&olga, "late").await;
    world.clock.advance(Duration::from_secs(31 * 60));
    let other = Cluster::new(&world, "two");
    assert!(refusal(&world, other.request(&world, &late)).await.contains("expired 1 min ago"));
}

#[tokio::test]
async fn a_withdrawn_join_token_opens_nothing() {
    let world = World::new().await;
    let olga = world.person("olga", "owners").await;
    let (id, token) = world.waiting_teamspace(&olga, "staging").await;
    let path = format!("/api/v1/teamspaces/{id}/join-tokens");
    let listed = olga.get(&world, &path).await.with(200);
    let token_id = listed["join_tokens"][0]["id"].as_str().expect("one token");
    olga.delete(&world, &format!("/api/v1/join-tokens/{token_id}")).await.with(204);
    let cluster = Cluster::new(&world, "one");
    assert!(refusal(&world, cluster.request(&world, &token)).await.contains("withdrawn"));
}

#[tokio::test]
async fn a_second_cluster_does_not_take_a_teamspace() {
    let world = World::new().await;
    let olga = world.person("olga", "owners").await;
    let staging = world.teamspace(&olga, "staging", &[]).await;
    let path = format!("/api/v1/teamspaces/{}/join-tokens", staging.id);
    let token = olga.post(&world, &path, json!({})).await.with(201);
    let other = Cluster::new(&world, "other");
    let request = other.request(&world, token["token"].as_str().expect("a token"));
    assert!(refusal(&world, request).await.contains("joined by another cluster"));
}

#[tokio::test]
async fn of_two_clusters_with_a_token_each_one_joins() {
    let world = World::new().await;
    let olga = world.person("olga", "owners").await;
    let (id, first) = world.waiting_teamspace(&olga, "staging").await;
    let path = format!("/api/v1/teamspaces/{id}/join-tokens");
    let second = olga.post(&world, &path, json!({})).await.with(201);
    let second: Token = second["token"].as_str().expect("a token").parse().expect("a token");
    let (one, other) = (Cluster::new(&world, "one"), Cluster::new(&world, "other"));
    one.enrol(&world, &first).await.expect("enrolled");
    // The other one had found the teamspace free.
    let store = world.hub.store.unscoped("a test enrols");
    let token = store.join_token_by_secret(&second).await.expect("read").expect("known");
    let enrolment = Enrolment {
        certificate: other.authority.certificate().to_vec(),
        key: other.authority.thumbprint(),
        cluster_uid: other.uid.clone(),
    };
    assert!(!store.enrol(&token, &enrolment, world.now()).await.expect("the database answers"));
    one.connect(&world).await.expect("it is still the one that joined");
    let token = store.join_token_by_secret(&second).await.expect("read").expect("known");
    assert_eq!(token.used_at, None, "who was refused has spent nothing");
}

#[tokio::test]
async fn a_copied_teamspace_key_locks_the_teamspace() {
    let world = World::new().await;
    let olga = world.person("olga", "owners").await;
    let mut staging = world.teamspace(&olga, "staging", &["shop/cart"]).await;
    let (_, token) = world.waiting_teamspace(&olga, "copy").await;
    let copied = staging.cluster.request_as(&world, &token, "another cluster");
    assert!(refusal(&world, copied).await.contains("one of the two is a copy"));
    staging.agent.is_ended().await;
    let shown = olga.get(&world, &format!("/api/v1/teamspaces/{}", staging.id)).await.with(200);
    assert_eq!(shown["status"], "locked");
    let refused = staging.cluster.connect(&world).await.err().expect("locked");
    assert_eq!(refused.code(), Code::PermissionDenied);
    olga.consumes(&world, staging.id, &["shop/*"]).await.with(409);
    let again = staging.cluster.request_as(&world, &token, "another cluster");
    assert!(refusal(&world, again).await.contains("used already"), "the copy's token is spent");

    let path = format!("/api/v1/teamspaces/{}/lock", staging.id);
    olga.delete(&world, &path).await.with(204);
    let agent = staging.cluster.connect(&world).await.expect("welcomed again");
    olga.consumes(&world, staging.id, &["shop/*"]).await.with(201);
    drop(agent);
}

#[tokio::test]
async fn a_public_certificate_locks_nobodys_teamspace() {
    let world = World::new().await;
    let olga = world.person("olga", "owners").await;
    let staging = world.teamspace(&olga, "staging", &["shop/cart"]).await;
    let rival = world.organization("rival").await;
    let mallory = world.person_of(&rival, "mallory", &["owners"]).await;
    let (_, token) = world.waiting_teamspace(&mallory, "theirs").await;
    // Everything but the key: the certificate goes to every laptop.
    let theirs = Cluster::new(&world, "theirs");
    let forged = EnrolRequest {
        teamspace_certificate: staging.cluster.authority.certificate().to_vec(),
        ..theirs.request(&world, &token)
    };
    assert!(refusal(&world, forged).await.contains("not signed by the teamspace key"));
    let shown = olga.get(&world, &format!("/api/v1/teamspaces/{}", staging.id)).await.with(200);
    assert_eq!(shown["status"], "connected");
    theirs.enrol(&world, &token).await.expect("the token is unspent");
}

#[tokio::test]
async fn an_enrolment_whose_answer_was_lost_is_answered_again() {
    let world = World::new().await;
    let olga = world.person("olga", "owners").await;
    let (id, token) = world.waiting_teamspace(&olga, "staging").await;
    let cluster = Cluster::new(&world, "one");
    let first = cluster.enrol(&world, &token).await.expect("enrolled");
    world.clock.advance(Duration::from_secs(31 * 60));
    let again = cluster.enrol(&world, &token).await.expect("the same again");
    assert_eq!(again, first);
    let elsewhere = cluster.request_as(&world, &token, "another cluster");
    assert!(refusal(&world, elsewhere).await.contains("used already"));
    let olga = world.person("olga", "owners").await;
    let audit = olga.get(&world, "/api/v1/audit").await.with(200);
    let entries = audit["entries"].as_array().expect("entries").iter();
    assert_eq!(entries.filter(|entry| entry["action"] == "teamspace.enrolled").count(), 1);

    let (_, second) = world.waiting_teamspace(&olga, "second").await;
    let other = cluster.request(&world, &second);
    assert!(refusal(&world, other).await.contains("has joined another teamspace"));
    assert_eq!(again.teamspace_id, id.to_string());
}

#[tokio::test]
async fn a_teamspace_whose_enrolment_was_reset_takes_another_cluster() {
    let world = World::new().await;
    let olga = world.person("olga", "owners").await;
    let mut staging = world.teamspace(&olga, "staging", &["shop/cart"]).await;
    let mut laptop = olga.laptop.connect(&world).await.expect("welcomed");
    olga.consumes(&world, staging.id, &["shop/*"]).await.with(201);
    olga.delete(&world, &format!("/api/v1/teamspaces/{}/enrolment", staging.id)).await.with(204);
    assert_eq!(laptop.revoked().await.reason, "the teamspace's enrolment was reset");
    staging.agent.is_ended().await;
    let refused = staging.cluster.connect(&world).await.err().expect("the key is unknown");
    assert_eq!(refused.code(), Code::NotFound);
    let path = format!("/api/v1/teamspaces/{}", staging.id);
    let shown = olga.get(&world, &path).await.with(200);
    assert_eq!((&shown["status"], &shown["services"]), (&json!("waiting"), &json!(0)));

    let token = olga.post(&world, &format!("{path}/join-tokens"), json!({})).await.with(201);
    let other = Cluster::new(&world, "other");
    other.enrol(&world, token["token"].as_str().expect("a token")).await.expect("enrolled");
    other.connect(&world).await.expect("welcomed");
}
