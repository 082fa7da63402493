//! What begins, and what is refused and why.

use fairlead_model::{ServicePort, Thumbprint};
use fairlead_wire::{
    grant::GrantVerifier,
    link::v1::{Catalogue, CataloguePort, cluster_up},
};
use serde_json::json;

use super::{id_of, names, publish};
use crate::{peers::service, world::World};

#[tokio::test]
async fn a_consume_comes_with_a_grant_that_the_cluster_accepts() {
    let world = World::new().await;
    let olga = world.person("olga", "owners").await;
    let ada = world.person("ada", "developers").await;
    let staging =
        world.teamspace(&olga, "staging", &["shop/cart", "shop/catalog", "pay/ledger"]).await;
    let begun = ada.consumes(&world, staging.id, &["shop/*", "!shop/catalog"]).await.with(201);
    assert_eq!(names(&begun["services"]), ["shop/cart"]);

    let key: [u8; 32] = staging.reply.grant_key.clone().try_into().expect("32 bytes");
    let verifier = GrantVerifier::new(&key, staging.id);
    let jwt = begun["grant"].as_str().expect("a grant");
    let device = ada.laptop.key.thumbprint();
    let grant = verifier.verify(jwt, world.now().into(), &device).expect("a valid grant");
    assert_eq!(grant.session.to_string(), id_of(&begun));
    let port = |number: &str| ServicePort::tcp(number.parse().expect("a port"));
    assert!(grant.allows(&"shop/cart".parse().expect("a service"), port("80")));
    assert!(!grant.allows(&"shop/cart".parse().expect("a service"), port("81")));
    assert!(!grant.allows(&"shop/catalog".parse().expect("a service"), port("80")));
    let stolen = verifier.verify(jwt, world.now().into(), &Thumbprint::of_spki(b"another"));
    assert!(stolen.is_err());
}

#[tokio::test]
async fn a_viewer_is_refused_with_the_policy_that_would_allow_it() {
    let world = World::new().await;
    let olga = world.person("olga", "owners").await;
    let grace = world.person("grace", "viewers").await;
    let staging = world.teamspace(&olga, "staging", &["shop/cart"]).await;
    let refused = grace.intercepts(&world, staging.id, "shop/cart").await;
    let reason = "you may not intercept `shop/cart` in teamspace `staging`: no policy allows it";
    assert_eq!(refused.message(), reason);
    let hint = "`developers-intercept` allows it to role developer";
    assert!(refused.hint().starts_with(hint), "{}", refused.hint());
    assert_eq!(refused.with(403)["error"]["policies"], json!([]));
    grace.consumes(&world, staging.id, &["shop/cart"]).await.with(403);
}

#[tokio::test]
async fn a_session_refused_again_and_again_is_one_row_of_the_audit_log() {
    let world = World::new().await;
    let olga = world.person("olga", "owners").await;
    let grace = world.person("grace", "viewers").await;
    let staging = world.teamspace(&olga, "staging", &["shop/cart", "shop/catalog"]).await;
    let preview = world.teamspace(&olga, "preview", &["shop/cart"]).await;
    for _ in 0..2 {
        grace.intercepts(&world, staging.id, "shop/cart").await.with(403);
        grace.consumes(&world, staging.id, &["shop/cart"]).await.with(403);
    }
    grace.intercepts(&world, staging.id, "shop/catalog").await.with(403);
    grace.intercepts(&world, preview.id, "shop/cart").await.with(403);
    let audit = olga.get(&world, "/api/v1/audit").await.with(200);
    let entries = audit["entries"].as_array().expect("entries").iter();
    let denied = entries.filter(|entry| entry["action"] == "access.denied");
    let subjects: Vec<_> = denied.rev().map(|entry| &entry["subject"]).collect();
    assert_eq!(
        subjects,
        [
            "intercept `shop/cart` in teamspace `staging`",
            "consume `shop/cart` in teamspace `staging`",
            "intercept `shop/catalog` in teamspace `staging`",
            "intercept `shop/cart` in teamspace `preview`",
        ]
    );
}

#[tokio::test]
async fn one_forbidden_service_does_not_spoil_the_others() {
    let world = World::new().await;
    let olga = world.person("olga", "owners").await;
    let ada = world.person("ada", "developers").await;
    let staging = world.teamspace(&olga, "staging", &["shop/cart", "shop/payment"]).await;
    publish(
        &world,
        &olga,
        &[(
            "guard-payment",
            r#"forbid(principal, action, resource == Service::"staging/shop/payment")
            unless { action == Action::"see" };"#,
        )],
    )
    .await;
    let begun = ada.consumes(&world, staging.id, &["shop/*"]).await.with(201);
    assert_eq!(names(&begun["services"]), ["shop/cart"]);
    assert_eq!(begun["refused"][0]["service"], "shop/payment");
    assert_eq!(begun["refused"][0]["policies"], json!(["guard-payment"]));
}

#[tokio::test]
async fn a_service_that_may_not_be_seen_is_not_named() {
    let world = World::new().await;
    let olga = world.person("olga", "owners").await;
    let ada = world.person("ada", "developers").await;
    let staging = world.teamspace(&olga, "staging", &["shop/cart", "secret/plan"]).await;
    publish(
        &world,
        &olga,
        &[("secret", r#"forbid(principal in Role::"developer", action, resource in Namespace::"staging/secret");"#)],
    )
    .await;
    for words in [&["shop/*", "secret/*"][..], &["*/*"], &["*/*:80", "*/plan"]] {
        let begun = ada.consumes(&world, staging.id, words).await.with(201);
        assert_eq!(names(&begun["services"]), ["shop/cart"], "{words:?}");
        assert_eq!(begun["refused"], json!([]), "{words:?}");
    }
    for word in ["secret/plan", "secret/plam", "secret/plan:9999", "*/plan", "*/plam"] {
        let refused = ada.consumes(&world, staging.id, &[word]).await;
        assert!(!refused.hint().contains("secret"), "{}", refused.hint());
        refused.with(404);
    }
    ada.intercepts(&world, staging.id, "secret/plan").await.with(404);
    let listed = ada.get(&world, &format!("/api/v1/teamspaces/{}/services", staging.id)).await;
    assert_eq!(names(&listed.with(200)["services"]), ["shop/cart"]);
}

#[tokio::test]
async fn a_misspelt_service_is_answered_with_similar_names() {
    let world = World::new().await;
    let olga = world.person("olga", "owners").await;
    let staging = world.teamspace(&olga, "staging", &["shop/cart"]).await;
    let refused = olga.intercepts(&world, staging.id, "shop/crat").await;
    assert_eq!(refused.hint(), "similar: `shop/cart`");
    refused.with(404);
    let refused = olga.intercepts(&world, staging.id, "pay/ledger").await;
    assert_eq!(refused.hint(), "list them: fairlead services");
    refused.with(404);
    let refused = olga.consumes(&world, staging.id, &["shop/crat"]).await;
    assert_eq!(refused.hint(), "similar: `shop/cart`");
    refused.with(404);
    olga.consumes(&world, staging.id, &["cart"]).await.with(400);
    let refused = olga.consumes(&world, staging.id, &["shop/cart:9999"]).await;
    assert!(refused.message().ends_with("`shop/cart` has no port 9999, it has 80"));
    let begun = olga.consumes(&world, staging.id, &["shop/cart", "shop/crat"]).await.with(201);
    assert_eq!(begun["unmatched"][0]["pattern"], "shop/crat");
    assert_eq!(begun["unmatched"][0]["similar"], json!(["shop/cart"]));
}

#[tokio::test]
async fn as_many_services_as_a_laptop_takes_fit_one_grant() {
    let world = World::new().await;
    let olga = world.person("olga", "owners").await;
    let names: Vec<_> = (0..6000).map(|n| format!("shop/a-service-called-{n}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let big = world.teamspace(&olga, "big", &names).await;
    let begun = olga.consumes(&world, big.id, &["shop/*"]).await.with(201);
    assert_eq!(begun["services"].as_array().map(Vec::len), Some(6000));
    let key: [u8; 32] = big.reply.grant_key.clone().try_into().expect("32 bytes");
    let jwt = begun["grant"].as_str().expect("a grant");
    let device = olga.laptop.key.thumbprint();
    let verifier = GrantVerifier::new(&key, big.id);
    let grant = verifier.verify(jwt, world.now().into(), &device).expect("the agent reads it");
    assert_eq!(grant.services.len(), 6000);
}

#[tokio::test]
async fn more_services_than_a_grant_can_name_are_refused_in_words() {
    let world = World::new().await;
    let olga = world.person("olga", "owners").await;
    let big = world.teamspace(&olga, "big", &[]).await;
    // As many ports as one service may report.
    let with_ports = |n| {
        let mut service = service(&format!("shop/a-service-called-{n}"));
        let port = CataloguePort { protocol: "TCP".to_owned(), ..CataloguePort::default() };
        let ports = (10_001..11_001).map(|n| CataloguePort { port: n, ..port.clone() });
        service.ports = ports.collect();
        service
    };
    let changed = (0..200).map(with_ports).collect();
    let catalogue = Catalogue { full: true, changed, ..Catalogue::default() };
    big.agent.say(cluster_up::Message::Catalogue(catalogue)).await;
    world.knows(&olga, big.id, 200).await;
    let refused = olga.consumes(&world, big.id, &["shop/*"]).await;
    assert!(refused.message().starts_with("200 services are more than one session can name"));
    refused.with(400);
    let live = olga.get(&world, "/api/v1/sessions?live=true").await.with(200);
    assert_eq!(live["sessions"], json!([]));
}

#[tokio::test]
async fn a_service_is_intercepted_by_one_developer() {
    let world = World::new().await;
    let olga = world.person("olga", "owners").await;
    let ada = world.person("ada", "developers").await;
    let staging = world.teamspace(&olga, "staging", &["shop/cart"]).await;
    let begun = ada.intercepts(&world, staging.id, "shop/cart").await.with(201);
    let refused = olga.intercepts(&world, staging.id, "shop/cart").await;
    assert_eq!(refused.message(), "`shop/cart` is intercepted by ada@example.test");
    refused.with(409);
    ada.delete(&world, &format!("/api/v1/sessions/{}", id_of(&begun))).await.with(204);
    olga.intercepts(&world, staging.id, "shop/cart").await.with(201);
}

#[tokio::test]
async fn somebody_elses_laptop_is_no_device_of_mine() {
    let world = World::new().await;
    let olga = world.person("olga", "owners").await;
    let ada = world.person("ada", "developers").await;
    let staging = world.teamspace(&olga, "staging", &["shop/cart"]).await;
    let body = json!({
        "kind": "consume", "teamspace_id": staging.id, "device_id": ada.laptop.id, "patterns": ["shop/*"],
    });
    olga.post(&world, "/api/v1/sessions", body).await.with(404);
}
