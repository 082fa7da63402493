//! Hosts outside the cluster: refused, reached and lost as policies say.

use fairlead_wire::{
    grant::unverified,
    link::v1::{FirstUse, cluster_up},
};
use serde_json::{Value, json};

use crate::{
    peers::{Joined, LaptopLink},
    people::Person,
    sessions::{has_ended, id_of, publish},
    world::{World, eventually},
};

const HOST: &str = "db.example.net:5432";
const WORD: &str = "+db.example.net:5432";
const PERMITTED: (&str, &str) = (
    "the-database",
    r#"permit(principal in Role::"developer", action == Action::"reachExternal",
              resource == Host::"staging/db.example.net:5432");"#,
);

/// A developer at a connected laptop, and the owner who publishes policies.
struct Scene {
    world: World,
    olga: Person,
    ada: Person,
    staging: Joined,
    laptop: LaptopLink,
}

async fn scene(policies: &[(&str, &str)]) -> Scene {
    let world = World::new().await;
    let olga = world.person("olga", "owners").await;
    let ada = world.person("ada", "developers").await;
    let staging = world.teamspace(&olga, "staging", &["shop/cart"]).await;
    publish(&world, &olga, policies).await;
    let laptop = ada.laptop.connect(&world).await.expect("welcomed");
    Scene { world, olga, ada, staging, laptop }
}

impl Scene {
    async fn begins(&self, words: &[&str]) -> Value {
        self.ada.consumes(&self.world, self.staging.id, words).await.with(201)
    }

    async fn is_about(&self, session: &str, words: &[&str]) -> Value {
        let path = format!("/api/v1/sessions/{session}/patterns");
        let body = Some(json!({ "patterns": words }));
        self.ada.ask(&self.world, reqwest::Method::PUT, &path, body).await.with(200)
    }

    async fn audited(&self, action: &str) -> Option<Value> {
        let audit = self.olga.get(&self.world, "/api/v1/audit").await.with(200);
        let mut entries = audit["entries"].as_array().expect("entries").iter();
        entries.find(|entry| entry["action"] == action).cloned()
    }

    /// Waits for a grant that names as many hosts.
    async fn is_granted(&mut self, hosts: usize) {
        while unverified(&self.laptop.grant().await.grant).expect("readable").hosts.len() != hosts {
        }
    }
}

#[tokio::test]
async fn a_host_that_no_policy_permits_is_refused_in_words_and_nothing_else_with_it() {
    let scene = scene(&[]).await;
    let refused = scene.ada.consumes(&scene.world, scene.staging.id, &[WORD]).await;
    let reason =
        "you may not reach `db.example.net:5432` through teamspace `staging`: no policy allows it";
    assert_eq!(refused.message(), reason);
    refused.with(403);
    let denied = scene.audited("access.denied").await.expect("recorded");
    assert_eq!(denied["subject"], "reach `db.example.net:5432` through teamspace `staging`");

    let begun = scene.begins(&["shop/*", WORD]).await;
    assert_eq!((&begun["services"][0]["name"], &begun["hosts"]), (&json!("cart"), &json!([])));
    assert_eq!(begun["refused"][0], json!({ "service": HOST, "reason": reason, "policies": [] }));
    for word in ["+10.0.0.1:80", "+localhost:80", "+db.example.net"] {
        scene.ada.consumes(&scene.world, scene.staging.id, &[word]).await.with(400);
    }
}

#[tokio::test]
async fn a_host_is_reached_as_soon_and_as_long_as_a_policy_permits_it() {
    let mut scene = scene(&[]).await;
    let session = id_of(&scene.begins(&["shop/*", WORD]).await);
    publish(&scene.world, &scene.olga, &[PERMITTED]).await;
    scene.is_granted(1).await;
    let widened = scene.audited("session.widened").await.expect("recorded");
    assert_eq!(widened["detail"], json!({ "services": [], "hosts": [HOST] }));
    assert_eq!(widened["policies"], json!(["the-database"]));

    let first_use = FirstUse {
        session_id: session.clone(),
        host: "db.example.net".to_owned(),
        port: 5432,
        ..FirstUse::default()
    };
    scene.staging.agent.say(cluster_up::Message::FirstUse(first_use)).await;
    let used = eventually("the use to be known", async || scene.audited("host.first_used").await);
    assert_eq!(used.await["detail"]["host"], "db.example.net");

    publish(&scene.world, &scene.olga, &[]).await;
    let reason = has_ended(&scene.world, &scene.ada, &session).await;
    assert!(reason.contains("`db.example.net:5432`"), "{reason}");
    assert_eq!(scene.laptop.revoked().await.session_id, session);
}

#[tokio::test]
async fn a_host_alone_is_a_consume() {
    let scene = scene(&[PERMITTED]).await;
    let begun = scene.begins(&[WORD]).await;
    assert_eq!((&begun["services"], &begun["hosts"]), (&json!([]), &json!([HOST])));
    let began = scene.audited("session.began").await.expect("recorded");
    assert_eq!(began["detail"]["hosts"], json!([HOST]));
}

#[tokio::test]
async fn a_host_that_was_just_given_up_and_is_then_forbidden_ends_the_session() {
    let mut scene = scene(&[PERMITTED]).await;
    let session = id_of(&scene.begins(&["shop/*", WORD]).await);
    let changed = scene.is_about(&session, &["shop/*"]).await;
    assert_eq!(changed["hosts"], json!([]));
    scene.is_granted(0).await;
    publish(&scene.world, &scene.olga, &[]).await;
    has_ended(&scene.world, &scene.ada, &session).await;
}

#[tokio::test]
async fn a_host_that_was_given_up_long_ago_may_be_forbidden() {
    let mut scene = scene(&[PERMITTED]).await;
    let session = id_of(&scene.begins(&["shop/*", WORD]).await);
    scene.is_about(&session, &["shop/*"]).await;
    scene.is_granted(0).await;
    scene.world.sql("update session_hosts set decided_at = decided_at - interval '16 minutes'");
    publish(&scene.world, &scene.olga, &[]).await;
    scene.staging.agent.reports(&["shop/cart", "shop/catalog"]).await;
    let catalog = |grant: &str| unverified(grant).expect("readable").services.len() == 2;
    while !catalog(&scene.laptop.grant().await.grant) {}
}
