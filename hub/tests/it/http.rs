//! What holds for every answer, and the stream of hints.

use std::time::Duration;

use fairlead_model::{Token, TokenKind};
use reqwest::Method;
use serde_json::json;
use tokio::time;

use crate::{
    people::anonymous,
    world::{PATIENCE, World},
};

#[tokio::test]
async fn every_answer_carries_what_browsers_and_logs_need() {
    let world = World::new().await;
    for path in ["/api/v1/version", "/api/v1/teamspaces", "/", "/nothing.js"] {
        let answer = reqwest::get(world.url(path)).await.expect("an answer");
        let header = |name| answer.headers().get(name).and_then(|value| value.to_str().ok());
        assert_eq!(header("x-content-type-options"), Some("nosniff"), "{path}");
        assert_eq!(header("referrer-policy"), Some("no-referrer"), "{path}");
        assert!(header("strict-transport-security").is_some(), "{path}");
        assert!(header("x-request-id").is_some(), "{path}");
        let policy = header("content-security-policy").expect("a policy");
        assert!(policy.starts_with("default-src 'none'"), "{path}: {policy}");
        assert!(!policy.contains("unsafe"), "{path}: {policy}");
    }
}

#[tokio::test]
async fn what_does_not_exist_is_answered_in_our_words() {
    let world = World::new().await;
    let answer = anonymous(&world, Method::GET, "/api/v1/nothing", None).await;
    assert_eq!(answer.with(404)["error"]["code"], "not_found");
    let ada = world.person("ada", "developers").await;
    let answer = ada.get(&world, "/api/v1/teamspaces/not-an-id").await;
    assert_eq!(answer.with(400)["error"]["code"], "invalid");
    let answer = ada.post(&world, "/api/v1/sessions", json!({ "kind": "borrow" })).await;
    assert_eq!(answer.with(400)["error"]["code"], "invalid");
}

#[tokio::test]
async fn a_body_that_is_too_long_is_not_read() {
    let world = World::new().await;
    let olga = world.person("olga", "owners").await;
    let long = json!({ "name": "a".repeat(100_000) });
    let answer = olga.post(&world, "/api/v1/teamspaces", long).await;
    assert!(answer.status.is_client_error(), "{}", answer.status);
}

#[tokio::test]
async fn strangers_who_knock_too_often_are_told_to_wait() {
    let world = World::new().await;
    let http = reqwest::Client::new();
    let mut refused = None;
    for _ in 0..1000 {
        let answer = http.post(world.url("/oauth/token")).send().await.expect("an answer");
        if answer.status().as_u16() == 429 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("a limit");
    assert!(refused.headers().contains_key("retry-after"));
    let elsewhere = anonymous(&world, Method::GET, "/api/v1/version", None).await;
    elsewhere.with(200);
}

#[tokio::test]
async fn guessed_credentials_are_told_to_wait() {
    let world = World::new().await;
    let http = reqwest::Client::new();
    let mut refused = false;
    for _ in 0..1000 {
        let token = Token::new(TokenKind::Access, rand::random()).expose();
        let request = http.get(world.url("/api/v1/me")).bearer_auth(token);
        let status = request.send().await.expect("an answer").status().as_u16();
        refused = status == 429;
        if refused {
            break;
        }
        assert_eq!(status, 401);
    }
    assert!(refused, "a thousand guesses were looked up");
    anonymous(&world, Method::GET, "/api/v1/version", None).await.with(200);
}

#[tokio::test]
async fn somebody_who_is_known_may_ask_as_often_as_they_like() {
    let world = World::new().await;
    let olga = world.person("olga", "owners").await;
    for _ in 0..300 {
        olga.get(&world, "/api/v1/roles").await.with(200);
    }
}

/// Knocks, each time saying to come from what `address` gives, and says whether somebody was told to wait.
async fn knocks_in_vain(world: &World, address: impl Fn(u32) -> String) -> bool {
    let http = reqwest::Client::new();
    for time in 0..1000 {
        let request = http.post(world.url("/oauth/token")).header("x-forwarded-for", address(time));
        if request.send().await.expect("an answer").status().as_u16() == 429 {
            return true;
        }
    }
    false
}

fn one(_: u32) -> String {
    "198.51.100.1".to_owned()
}

fn many(time: u32) -> String {
    format!("203.0.113.{}", time % 200)
}

#[tokio::test]
async fn behind_a_trusted_proxy_everybody_is_counted_by_themselves() {
    let loopback = "127.0.0.0/8".parse().expect("a network");
    let world = World::configured(|config| config.trusted_proxies = vec![loopback]).await;
    assert!(knocks_in_vain(&world, one).await);
    assert!(!knocks_in_vain(&world, many).await);
}

#[tokio::test]
async fn nobody_else_can_knock_under_many_names() {
    let world = World::new().await;
    assert!(knocks_in_vain(&world, many).await);
}

#[tokio::test]
async fn where_somebody_asks_from_behind_a_trusted_proxy_is_what_policies_see() {
    let loopback = "127.0.0.0/8".parse().expect("a network");
    let world = World::configured(|config| config.trusted_proxies = vec![loopback]).await;
    // Not an owner: of them no policy asks where they publish from.
    let adam = world.person("adam", "admins").await;
    let rule = r#"forbid(principal, action == Action::"managePolicies", resource)
        unless { context has ip && context.ip.isInRange(ip("198.51.100.0/24")) };"#;
    let policies = json!({ "policies": [{ "id": "office", "label": "", "text": rule }] });
    adam.ask(&world, Method::PUT, "/api/v1/policies", Some(policies.clone())).await.with(200);
    adam.ask_from(&world, "203.0.113.9", Method::PUT, "/api/v1/policies", &policies)
        .await
        .with(403);
    adam.ask_from(&world, "198.51.100.7", Method::PUT, "/api/v1/policies", &policies)
        .await
        .with(200);
}

/// Listens until a hint has these words; fails when the stream ends before.
async fn hears(stream: &mut reqwest::Response, words: &str) {
    let heard = async {
        let mut text = String::new();
        while !text.contains(words) {
            let chunk = stream.chunk().await.expect("the stream lives").expect("the stream lives");
            text.push_str(std::str::from_utf8(&chunk).expect("text"));
        }
    };
    time::timeout(PATIENCE, heard).await.unwrap_or_else(|_| panic!("never heard {words}"));
}

const TEAMSPACES: &str = r#"event: change
data: {"noun":"teamspaces"}"#;

#[tokio::test]
async fn a_change_is_hinted_to_its_own_organization_only() {
    let world = World::new().await;
    let olga = world.person("olga", "owners").await;
    let rival = world.organization("rival").await;
    let mallory = world.person_of(&rival, "mallory", &["owners"]).await;
    let mut ours = olga.events(&world).await;
    let mut theirs = mallory.events(&world).await;
    olga.post(&world, "/api/v1/teamspaces", json!({ "name": "staging" })).await.with(201);
    hears(&mut ours, TEAMSPACES).await;
    let silence = time::timeout(Duration::from_secs(1), async {
        loop {
            let chunk = theirs.chunk().await.expect("the stream lives").expect("the stream lives");
            let text = String::from_utf8_lossy(&chunk).into_owned();
            assert!(!text.contains("teamspaces"), "another organization heard: {text}");
        }
    });
    assert!(silence.await.is_err());
}

#[tokio::test]
async fn whoever_is_removed_hears_nothing_more() {
    let world = World::new().await;
    let olga = world.person("olga", "owners").await;
    let bob = world.person("bob", "developers").await;
    let mut stream = bob.events(&world).await;
    let path = format!("/api/v1/members/{}", bob.caller.actor.user());
    olga.delete(&world, &path).await.with(204);
    let ended = async { while matches!(stream.chunk().await, Ok(Some(_))) {} };
    time::timeout(PATIENCE, ended).await.expect("the stream ends with the membership");
}

#[tokio::test]
async fn nobody_listens_with_more_pages_than_anybody_has_open() {
    let world = World::new().await;
    let olga = world.person("olga", "owners").await;
    let ada = world.person("ada", "developers").await;
    let mut streams = Vec::new();
    for _ in 0..16 {
        streams.push(olga.events(&world).await);
    }
    let refused = olga.get(&world, "/api/v1/events").await;
    assert!(refused.hint().contains("listen already"), "{}", refused.hint());
    refused.with(429);
    ada.get(&world, "/api/v1/events").await.with(200);
}

#[tokio::test]
async fn a_policy_with_a_typo_is_refused_in_words() {
    let world = World::new().await;
    let olga = world.person("olga", "owners").await;
    let typo = json!({ "policies": [{ "id": "typo", "text": r#"permit(principal, action == Action::"consum", resource);"# }] });
    let answer = olga.ask(&world, Method::PUT, "/api/v1/policies", Some(typo)).await;
    assert!(answer.message().starts_with("policy `typo`"), "{}", answer.message());
    answer.with(400);
    let good = json!({ "policies": [{ "id": "all-see", "label": "Everybody sees everything",
        "text": r#"permit(principal, action == Action::"see", resource);"# }] });
    let answer = olga.ask(&world, Method::PUT, "/api/v1/policies", Some(good.clone())).await;
    assert_eq!(answer.with(200)["version"], 1);
    let shown = olga.get(&world, "/api/v1/policies").await.with(200);
    assert_eq!(shown["policies"], good["policies"]);
}

#[tokio::test]
async fn a_setup_link_that_does_not_count_makes_the_hub_ask_nobody() {
    let world = World::new().await;
    let issuer = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let setup = json!({
        "token": format!("fls_{}", "A".repeat(43)),
        "organization": { "slug": "third", "name": "Third" },
        "owner_email": "owner@third.test",
        "oidc": {
            "issuer": format!("http://{}", issuer.local_addr().expect("bound")),
            "client_id": "x", "client_secret": "y",
        },
        "group_roles": [],
    });
    let answer = anonymous(&world, Method::POST, "/api/v1/setup", Some(setup)).await;
    assert!(answer.message().contains("setup link"), "{}", answer.message());
    answer.with(404);
    assert!(time::timeout(Duration::from_millis(100), issuer.accept()).await.is_err());
}
