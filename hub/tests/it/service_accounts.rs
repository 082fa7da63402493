//! Service accounts: what a CI job may with a token, and how it ends with the token.

use std::time::Duration;

use hub_store::Rotated;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{people::Person, world::World};

/// Makes a service account and a token of it; returns the account, the token's id and the token.
async fn made(world: &World, by: &Person, name: &str) -> (String, String, String) {
    made_of(world, by, json!({ "name": name, "roles": ["developer"] })).await
}

async fn made_of(world: &World, by: &Person, new: Value) -> (String, String, String) {
    let account = by.post(world, "/api/v1/service-accounts", new).await.with(201);
    let account = account["id"].as_str().expect("an id").to_owned();
    let path = format!("/api/v1/service-accounts/{account}/tokens");
    let token = by.post(world, &path, json!({ "name": "github", "days": 1 })).await.with(201);
    let text = |name: &str| token[name].as_str().expect("text").to_owned();
    (account, text("id"), text("token"))
}

#[tokio::test]
async fn a_job_uses_services_and_administers_nothing() {
    let world = World::new().await;
    let olga = world.person("olga", "owners").await;
    let staging = world.teamspace(&olga, "staging", &["shop/cart"]).await;
    let (account, _, token) = made(&world, &olga, "ci").await;
    let job = world.service_of(&token).await.expect("it counts");
    let me = job.get(&world, "/api/v1/me").await.with(200);
    assert_eq!((&me["user"]["email"], &me["roles"]), (&json!("ci"), &json!(["developer"])));
    let may = async |who: &Person| {
        let me = who.get(&world, "/api/v1/me").await.with(200);
        me["may"]["manage_service_accounts"].as_bool()
    };
    assert_eq!((may(&job).await, may(&olga).await), (Some(false), Some(true)));

    let begun = job.consumes(&world, staging.id, &["shop/*"]).await.with(201);
    let session = format!("/api/v1/sessions/{}", begun["session"]["id"].as_str().expect("an id"));
    assert_eq!(job.get(&world, &session).await.with(200)["user"]["email"], "ci");
    job.delete(&world, &session).await.with(204);
    for (path, body) in [
        ("/api/v1/teamspaces", json!({ "name": "mine" })),
        ("/api/v1/service-accounts", json!({ "name": "another", "roles": ["developer"] })),
    ] {
        job.post(&world, path, body).await.with(403);
    }
    job.get(&world, "/api/v1/audit").await.with(403);

    let listed = olga.get(&world, "/api/v1/service-accounts").await.with(200);
    let listed = &listed["service_accounts"][0];
    assert_eq!((&listed["name"], &listed["tokens"][0]["name"]), (&json!("ci"), &json!("github")));
    assert!(listed["tokens"][0]["last_used_at"].is_string(), "{listed}");
    let members = olga.get(&world, "/api/v1/members").await.with(200);
    assert!(!members.to_string().contains(&account), "it is no member: {members}");
    let roles = format!("/api/v1/members/{account}/roles");
    olga.ask(&world, reqwest::Method::PUT, &roles, Some(json!({ "roles": ["owner"] })))
        .await
        .with(404);
    olga.delete(&world, &format!("/api/v1/members/{account}")).await.with(404);

    let audit = olga.get(&world, "/api/v1/audit").await.with(200).to_string();
    for expected in ["service_account.created", "api_token.created", "\"actor_kind\":\"service\""] {
        assert!(audit.contains(expected), "{expected} is not in {audit}");
    }
    assert!(!audit.contains(&token));
}

#[tokio::test]
async fn a_revoked_token_ends_what_lives_by_it_and_nothing_else() {
    let world = World::new().await;
    let olga = world.person("olga", "owners").await;
    let mut staging = world.teamspace(&olga, "staging", &["shop/cart"]).await;
    let (account, id, token) = made(&world, &olga, "ci").await;
    let job = world.service_of(&token).await.expect("it counts");
    let path = format!("/api/v1/service-accounts/{account}/tokens");
    let second = olga.post(&world, &path, json!({ "name": "gitlab" })).await.with(201);
    let second = second["token"].as_str().expect("a token").to_owned();
    let other = world.service_of(&second).await.expect("it counts");
    let mut laptop = job.laptop.connect(&world).await.expect("welcomed");
    job.consumes(&world, staging.id, &["shop/*"]).await.with(201);
    staging.agent.wanted(|wanted| wanted.sessions.len() == 1).await;

    olga.delete(&world, &format!("/api/v1/api-tokens/{id}")).await.with(204);
    staging.agent.revoked().await;
    laptop.revoked().await;
    laptop.is_ended().await;
    job.get(&world, "/api/v1/me").await.with(401);
    assert_eq!(job.refreshes(&world, None).await.0, Rotated::Unknown);
    assert!(world.service_of(&token).await.is_none());
    other.get(&world, "/api/v1/me").await.with(200);
    olga.delete(&world, &format!("/api/v1/api-tokens/{id}")).await.with(404);

    olga.delete(&world, &format!("/api/v1/service-accounts/{account}")).await.with(204);
    other.get(&world, "/api/v1/me").await.with(401);
    assert!(world.service_of(&second).await.is_none());
    made(&world, &olga, "ci").await;
}

#[tokio::test]
async fn a_token_that_expires_ends_what_lives_by_it() {
    let world = World::new().await;
    let olga = world.person("olga", "owners").await;
    let (_, _, token) = made(&world, &olga, "ci").await;
    let job = world.service_of(&token).await.expect("it counts");
    world.clock.advance(Duration::from_secs(24 * 3600 + 1));
    assert!(world.service_of(&token).await.is_none());
    let store = world.hub.store.unscoped("a test lets time pass");
    store.end_expired_api_tokens(world.now()).await.expect("ended");
    assert_eq!(job.refreshes(&world, None).await.0, Rotated::Unknown);
    let olga = world.person("olga", "owners").await;
    let audit = olga.get(&world, "/api/v1/audit").await.with(200).to_string();
    assert!(audit.contains("api_token.expired"), "{audit}");
    let listed = olga.get(&world, "/api/v1/service-accounts").await.with(200);
    assert_eq!(listed["service_accounts"][0]["tokens"], json!([]), "it counts no longer");
}

#[tokio::test]
async fn a_job_of_one_teamspace_knows_no_other() {
    let world = World::new().await;
    let olga = world.person("olga", "owners").await;
    let staging = world.teamspace(&olga, "staging", &["shop/cart"]).await;
    let production = world.teamspace(&olga, "production", &["shop/cart"]).await;
    let new = json!({ "name": "ci", "roles": ["developer"], "teamspaces": [staging.id] });
    let (_, _, token) = made_of(&world, &olga, new).await;
    let job = world.service_of(&token).await.expect("it counts");
    job.consumes(&world, staging.id, &["shop/*"]).await.with(201);
    job.consumes(&world, production.id, &["shop/*"]).await.with(404);
    let seen = job.get(&world, "/api/v1/teamspaces").await.with(200).to_string();
    assert!(seen.contains("staging") && !seen.contains("production"), "{seen}");
    let listed = olga.get(&world, "/api/v1/service-accounts").await.with(200);
    assert_eq!(listed["service_accounts"][0]["teamspaces"], json!(["staging"]));

    olga.delete(&world, &format!("/api/v1/teamspaces/{}", staging.id)).await.with(204);
    let seen = job.get(&world, "/api/v1/teamspaces").await.with(200).to_string();
    assert!(!seen.contains("production"), "none is not every one: {seen}");
    let listed = olga.get(&world, "/api/v1/service-accounts").await.with(200);
    assert_eq!(listed["service_accounts"][0]["teamspaces"], json!([]));
}

#[tokio::test]
async fn what_cannot_be_a_service_account_is_refused_in_words() {
    let world = World::new().await;
    let olga = world.person("olga", "owners").await;
    let path = "/api/v1/service-accounts";
    for (new, expected) in [
        (json!({ "name": "ada@example.test", "roles": ["developer"] }), "is not a name"),
        (json!({ "name": "ci", "roles": ["owner"] }), "`developer` or `viewer`"),
        (json!({ "name": "ci", "roles": [] }), "`developer` or `viewer`"),
    ] {
        let refused = olga.post(&world, path, new).await;
        assert!(refused.message().contains(expected), "{refused:?}");
        refused.with(400);
    }
    let elsewhere = json!({ "name": "ci", "roles": ["viewer"], "teamspaces": [Uuid::now_v7()] });
    olga.post(&world, path, elsewhere).await.with(404);
    let nowhere = json!({ "name": "ci", "roles": ["viewer"], "teamspaces": [] });
    olga.post(&world, path, nowhere).await.with(400);
    let (account, ..) = made(&world, &olga, "ci").await;
    let again = olga.post(&world, path, json!({ "name": "ci", "roles": ["viewer"] })).await;
    assert!(again.message().contains("exists already"), "{again:?}");
    again.with(409);
    let path = format!("{path}/{account}/tokens");
    let long = olga.post(&world, &path, json!({ "name": "for ever", "days": 91 })).await;
    assert!(long.message().contains("1 to 90 days"), "{long:?}");
    long.with(400);
}
