//! Sign-ins of the command line: how their tokens follow each other, and what ends with them.

use std::time::Duration;

use hub_store::Rotated;
use tonic::Code;

use crate::world::{Org, World, eventually};

#[tokio::test]
async fn whoever_signs_out_loses_their_sessions_and_their_link() {
    let world = World::new().await;
    let olga = world.person("olga", "owners").await;
    let ada = world.person("ada", "developers").await;
    let mut staging = world.teamspace(&olga, "staging", &["shop/cart"]).await;
    let mut laptop = ada.laptop.connect(&world).await.expect("welcomed");
    ada.consumes(&world, staging.id, &["shop/*"]).await.with(201);
    staging.agent.wanted(|wanted| wanted.sessions.len() == 1).await;
    // She has run `fairlead login` twice: the first sign-in was never ended by itself.
    world.signs_in_again(&ada).await;
    ada.signs_out(&world).await;
    assert_eq!(staging.agent.revoked().await.reason, "the laptop was signed out");
    laptop.revoked().await;
    laptop.is_ended().await;
    let refused = ada.laptop.connect(&world).await.err().expect("its certificate is not enough");
    assert_eq!(refused.code(), Code::NotFound);
    assert!(refused.message().contains("sign-in of this device has ended"), "{refused}");
}

#[tokio::test]
async fn a_reused_refresh_token_ends_the_sessions_of_its_sign_in() {
    let world = World::new().await;
    let olga = world.person("olga", "owners").await;
    let ada = world.person("ada", "developers").await;
    let staging = world.teamspace(&olga, "staging", &["shop/cart"]).await;
    let begun = ada.consumes(&world, staging.id, &["shop/*"]).await.with(201);
    let (_, second) = ada.refreshes(&world, None).await;
    assert!(matches!(ada.refreshes(&world, Some(&second)).await.0, Rotated::Issued(_)));
    assert!(matches!(ada.refreshes(&world, None).await.0, Rotated::Reused(_)));
    let session = begun["session"]["id"].as_str().expect("an id");
    let reason = eventually("the session to end", async || {
        let shown = olga.get(&world, &format!("/api/v1/sessions/{session}")).await.with(200);
        shown["end_reason"].as_str().map(ToOwned::to_owned)
    });
    assert_eq!(reason.await, "the laptop was signed out");
    let audit = olga.get(&world, "/api/v1/audit").await.with(200);
    let ended =
        audit["entries"].as_array().expect("entries").iter().find(|entry| {
            entry["action"] == "sign_in.ended" && entry["detail"]["reason"] == "reuse"
        });
    assert!(ended.is_some(), "{audit}");
}

#[tokio::test]
async fn a_refresh_whose_answer_was_lost_is_answered_again() {
    let world = World::new().await;
    let ada = world.person("ada", "developers").await;
    let (_, lost) = ada.refreshes(&world, None).await;
    let (again, next) = ada.refreshes(&world, None).await;
    assert!(matches!(again, Rotated::Issued(_)), "{again:?}");
    assert!(matches!(ada.refreshes(&world, Some(&next)).await.0, Rotated::Issued(_)));
    // What was lost was replaced: a use of it is a second use.
    assert!(matches!(ada.refreshes(&world, Some(&lost)).await.0, Rotated::Reused(_)));
    assert_eq!(ada.refreshes(&world, Some(&next)).await.0, Rotated::Unknown, "it has ended");
}

#[tokio::test]
async fn an_answer_is_not_lost_for_longer_than_a_minute() {
    let world = World::new().await;
    let ada = world.person("ada", "developers").await;
    ada.refreshes(&world, None).await;
    world.clock.advance(Duration::from_secs(59));
    assert!(matches!(ada.refreshes(&world, None).await.0, Rotated::Issued(_)));
    world.clock.advance(Duration::from_secs(2));
    assert!(matches!(ada.refreshes(&world, None).await.0, Rotated::Reused(_)));
}

#[tokio::test]
async fn a_code_ends_with_the_member_or_the_connection() {
    let world = World::new().await;
    let olga = world.person("olga", "owners").await;
    world.sql(
        "insert into oidc_connections
         select org_id, '00000000-0000-7000-8000-000000000001', issuer, client_id, sealed_client_secret, groups_claim,
                scopes, '{other.test}', created_at
         from oidc_connections;",
    );
    let other = uuid::uuid!("00000000-0000-7000-8000-000000000001");
    let elsewhere = Org { connection: other, ..world.acme.clone() };
    let ada = world.person("ada", "developers").await;
    let eve = world.person_of(&elsewhere, "eve", &["developers"]).await;
    let member = format!("/api/v1/members/{}", ada.caller.actor.user());
    let connection = format!("/api/v1/organization/connections/{other}");
    for (person, path) in [(ada, member), (eve, connection)] {
        let code = world.code(&person).await;
        let store = world.hub.store.unscoped("a test looks for a code");
        assert!(store.code(&code).await.expect("read").is_some());
        olga.delete(&world, &path).await.with(204);
        assert!(store.code(&code).await.expect("read").is_none(), "after {path}");
    }
}
