//! What ends a session: its owner, an admin, a policy, whatever it stood on, a laptop that stays away, and what an agent
//! sees.

use std::time::Duration;

use fairlead_wire::link::v1::{Phase, cluster_down};
use serde_json::json;

use super::{has_ended, id_of, publish, running::running};
use crate::{
    people::Person,
    world::{World, eventually, within},
};

#[tokio::test]
async fn sessions_are_ended_by_their_owner_and_by_admins_only() {
    let world = World::new().await;
    let olga = world.person("olga", "owners").await;
    let ada = world.person("ada", "developers").await;
    let bob = world.person("bob", "developers").await;
    let staging = world.teamspace(&olga, "staging", &["shop/cart"]).await;
    let begun = ada.consumes(&world, staging.id, &["shop/*"]).await.with(201);
    let path = format!("/api/v1/sessions/{}", id_of(&begun));
    bob.delete(&world, &path).await.with(403);
    olga.delete(&world, &path).await.with(204);
    let shown = ada.get(&world, &path).await.with(200);
    assert_eq!(shown["end_reason"], "ended by olga@example.test");
    ada.delete(&world, &path).await.with(204);
}

#[tokio::test]
async fn where_somebody_asks_from_counts_while_the_session_lives() {
    let mut running = running().await;
    let inside = r#"forbid(principal, action == Action::"consume", resource)
        unless { context has ip && context.ip.isLoopback() };"#;
    publish(&running.world, &running.olga, &[("inside", inside)]).await;
    let path = format!("/api/v1/teamspaces/{}/services", running.staging.id);
    let listed = running.ada.get(&running.world, &path).await.with(200);
    assert_eq!(listed["services"][0]["may"]["consume"], true);
    let outside = r#"forbid(principal, action == Action::"consume", resource)
        when { context has ip && context.ip.isLoopback() };"#;
    publish(&running.world, &running.olga, &[("outside", outside)]).await;
    assert!(running.both_ends_are_told().await.contains("`outside`"));
}

#[tokio::test]
async fn an_end_by_an_admin_reaches_both_ends() {
    let mut running = running().await;
    let path = format!("/api/v1/sessions/{}", running.session);
    running.olga.delete(&running.world, &path).await.with(204);
    assert_eq!(running.both_ends_are_told().await, "ended by olga@example.test");
}

#[tokio::test]
async fn an_intercept_that_is_left_may_finish_what_is_under_way() {
    let world = World::new().await;
    let olga = world.person("olga", "owners").await;
    let mut staging = world.teamspace(&olga, "staging", &["shop/cart"]).await;
    let mut laptop = olga.laptop.connect(&world).await.expect("welcomed");
    let begun = olga.intercepts(&world, staging.id, "shop/cart").await.with(201);
    staging.agent.wanted(|wanted| wanted.sessions.len() == 1).await;
    olga.delete(&world, &format!("/api/v1/sessions/{}", id_of(&begun))).await.with(204);
    // The agent gives the service back before anything is cut.
    loop {
        match staging.agent.next().await.expect("connected") {
            cluster_down::Message::Wanted(wanted) if wanted.sessions.is_empty() => break,
            cluster_down::Message::Revoked(_) => panic!("cut before the agent could finish"),
            _ => {}
        }
    }
    staging.agent.revoked().await;
    laptop.revoked().await;
}

#[tokio::test]
async fn a_policy_that_forbids_ends_what_it_forbids() {
    let mut running = running().await;
    let guard = r#"forbid(principal, action == Action::"consume", resource);"#;
    publish(&running.world, &running.olga, &[("freeze", guard)]).await;
    let reason = running.both_ends_are_told().await;
    assert!(reason.contains("forbidden by policy `freeze`"), "{reason}");
    let audit = running.olga.get(&running.world, "/api/v1/audit?limit=1").await.with(200);
    assert_eq!(audit["entries"][0]["action"], "session.ended");
    assert_eq!(audit["entries"][0]["policies"], json!(["freeze"]));
    assert_eq!(audit["entries"][0]["policy_version"], 1);
}

#[tokio::test]
async fn what_was_just_given_up_and_is_then_forbidden_ends_the_session() {
    let mut running = running().await;
    running.staging.agent.reports(&["shop/cart", "shop/catalog"]).await;
    running.is_granted(&["shop/cart:80", "shop/catalog:80"], "shop/cart").await;
    running.is_about(&running.ada, &["shop/catalog"]).await.with(200);
    // The laptop holds a grant that names it for up to a quarter of an hour.
    let guard = r#"forbid(principal, action == Action::"consume", resource == Service::"staging/shop/cart");"#;
    publish(&running.world, &running.olga, &[("freeze", guard)]).await;
    assert!(running.both_ends_are_told().await.contains("`freeze`"));
}

#[tokio::test]
async fn whoever_leaves_the_group_loses_their_sessions() {
    let mut running = running().await;
    // The issuer says at the next sign-in that she is in no group any more.
    running.world.person_of(&running.world.acme, "ada", &[]).await;
    running.both_ends_are_told().await;
}

#[tokio::test]
async fn a_removed_device_loses_its_sessions_and_its_link() {
    let mut running = running().await;
    let path = format!("/api/v1/devices/{}", running.ada.laptop.id);
    running.olga.delete(&running.world, &path).await.with(204);
    running.both_ends_are_told().await;
    running.laptop.is_ended().await;
    assert!(running.ada.laptop.connect(&running.world).await.is_err());
}

#[tokio::test]
async fn a_deleted_teamspace_ends_its_sessions() {
    let mut running = running().await;
    let path = format!("/api/v1/teamspaces/{}", running.staging.id);
    running.olga.delete(&running.world, &path).await.with(204);
    assert_eq!(running.laptop.revoked().await.reason, "the teamspace was deleted");
}

#[tokio::test]
async fn a_laptop_that_stays_away_loses_its_session() {
    let running = running().await;
    drop(running.laptop);
    running.world.clock.advance(Duration::from_secs(16 * 60));
    let token_again = running.world.person("ada", "developers").await;
    expires(&running.world, &token_again, &running.session).await;
}

#[tokio::test]
async fn a_hub_whose_clock_is_wrong_for_a_while_ends_nothing_and_renews_what_it_granted() {
    let mut running = running().await;
    // Her token lives for ten minutes.
    for ahead_s in [540, 0] {
        running.world.clock.is_set_ahead(ahead_s);
        running.is_granted_anew().await;
    }
    let path = format!("/api/v1/sessions/{}", running.session);
    let shown = running.ada.get(&running.world, &path).await.with(200);
    assert!(shown["ended_at"].is_null(), "{shown}");
}

#[tokio::test]
async fn a_damaged_row_of_one_tenant_is_no_matter_of_the_next() {
    let running = running().await;
    // Ids count up, and so do the rounds: acme comes first.
    let world = &running.world;
    let rival = world.organization("rival").await;
    let rita = world.person_of(&rival, "rita", &["owners"]).await;
    let theirs = world.teamspace(&rita, "theirs", &["shop/cart"]).await;
    let begun = rita.consumes(world, theirs.id, &["shop/*"]).await.with(201);
    world.sql(
        "update sessions set patterns = array['/ /']
         where org_id = (select id from organizations where slug = 'acme')",
    );
    world.clock.advance(Duration::from_secs(16 * 60));
    let token_again = world.person_of(&rival, "rita", &["owners"]).await;
    expires(world, &token_again, &id_of(&begun)).await;
}

#[tokio::test]
async fn what_the_agent_sees_is_shown_and_an_end_it_sees_is_an_end() {
    let world = World::new().await;
    let olga = world.person("olga", "owners").await;
    let staging = world.teamspace(&olga, "staging", &["shop/cart"]).await;
    let begun = olga.intercepts(&world, staging.id, "shop/cart").await.with(201);
    let session = id_of(&begun);
    let path = format!("/api/v1/sessions/{session}");
    staging.agent.observes(&session, Phase::Active, "").await;
    eventually("the session to be active", async || {
        (olga.get(&world, &path).await.with(200)["phase"] == "active").then_some(())
    })
    .await;
    staging.agent.observes(&session, Phase::Ended, "lost").await;
    assert_eq!(has_ended(&world, &olga, &session).await, "lost");
}

#[tokio::test]
async fn a_preflight_that_refuses_ends_the_session_with_its_reason() {
    let world = World::new().await;
    let olga = world.person("olga", "owners").await;
    let staging = world.teamspace(&olga, "staging", &["shop/cart"]).await;
    let begun = olga.intercepts(&world, staging.id, "shop/cart").await.with(201);
    let session = id_of(&begun);
    staging.agent.observes(&session, Phase::Refused, "a mesh encrypts its pods").await;
    assert_eq!(has_ended(&world, &olga, &session).await, "a mesh encrypts its pods");
    let shown = olga.get(&world, &format!("/api/v1/sessions/{session}")).await.with(200);
    assert_eq!(shown["phase"], "refused");
}

/// The task looks every ten seconds, on a machine that does other things too.
const ROUNDS: Duration = Duration::from_secs(60);

async fn expires(world: &World, person: &Person, session: &str) {
    let path = format!("/api/v1/sessions/{session}");
    let reason = within(ROUNDS, "the session to expire", async || {
        let shown = person.get(world, &path).await.with(200);
        shown["end_reason"].as_str().map(ToOwned::to_owned)
    });
    assert_eq!(reason.await, "the laptop was away for too long");
}
