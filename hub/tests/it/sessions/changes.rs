//! How a session changes while it lives: what its grant names as the catalogue changes, and as its words do.

use fairlead_wire::{
    grant::unverified,
    link::v1::{Catalogue, CataloguePort, cluster_up},
};
use serde_json::{Value, json};

use super::{id_of, names, publish, running::running};
use crate::{peers::service, world::World};

#[tokio::test]
async fn the_laptop_hears_how_the_pods_of_a_headless_service_are_called_as_they_come_and_go() {
    let world = World::new().await;
    let olga = world.person("olga", "owners").await;
    let staging = world.teamspace(&olga, "staging", &["shop/cart"]).await;
    let with_pods = |pods: &[&str]| {
        let mut db = service("shop/db");
        "Headless".clone_into(&mut db.r#type);
        db.pods = pods.iter().map(ToString::to_string).collect();
        Catalogue { changed: vec![db], ..Catalogue::default() }
    };
    let said = cluster_up::Message::Catalogue(with_pods(&["db-0", "not a name"]));
    staging.agent.say(said).await;
    world.knows(&olga, staging.id, 2).await;
    let mut laptop = olga.laptop.connect(&world).await.expect("welcomed");
    let begun = olga.consumes(&world, staging.id, &["shop/db"]).await.with(201);
    assert_eq!(begun["services"][0]["pods"], json!(["db-0"]));

    let said = cluster_up::Message::Catalogue(with_pods(&["db-0", "db-1"]));
    staging.agent.say(said).await;
    let pods = loop {
        let granted = unverified(&laptop.grant().await.grant).expect("readable").services;
        let pods: Vec<_> = granted[0].pods.iter().map(ToString::to_string).collect();
        if pods.len() > 1 {
            break pods;
        }
    };
    assert_eq!(pods, ["db-0", "db-1"]);
    let audit = olga.get(&world, "/api/v1/audit").await.with(200).to_string();
    for decided in ["session.widened", "session.narrowed", "session.changed"] {
        assert!(!audit.contains(decided), "nothing was decided: {audit}");
    }
}

#[tokio::test]
async fn a_consume_follows_the_catalogue() {
    let mut running = running().await;
    running.staging.agent.reports(&["shop/cart", "shop/catalog", "pay/ledger"]).await;
    running.is_granted(&["shop/cart:80", "shop/catalog:80"], "shop/cart").await;
    let mut changed = service("shop/catalog");
    changed.ports[0].port = 8080;
    let changed = Catalogue { changed: vec![changed], ..Catalogue::default() };
    running.staging.agent.say(cluster_up::Message::Catalogue(changed)).await;
    running.is_granted(&["shop/cart:80", "shop/catalog:8080"], "shop/cart").await;
    running.staging.agent.reports(&["shop/cart", "pay/ledger"]).await;
    running.is_granted(&["shop/cart:80"], "shop/cart").await;
    assert_eq!(running.audited("session.narrowed").await["services"], json!(["shop/catalog"]));
    running.staging.agent.reports(&["shop/cart", "shop/catalog"]).await;
    running.is_granted(&["shop/cart:80", "shop/catalog:80"], "shop/cart").await;
}

#[tokio::test]
async fn ports_of_udp_are_granted_beside_those_of_tcp_and_go_with_their_service() {
    let mut running = running().await;
    let mut dns = service("shop/dns");
    let udp = |number, of: &CataloguePort| {
        let (name, protocol) = ("datagrams".to_owned(), "UDP".to_owned());
        CataloguePort { name, protocol, port: number, ..of.clone() }
    };
    dns.ports.insert(0, udp(53, &dns.ports[0]));
    let mut log = service("shop/log");
    log.ports = vec![udp(514, &log.ports[0])];
    let says = |changed| Catalogue { changed, ..Catalogue::default() };
    running.staging.agent.say(cluster_up::Message::Catalogue(says(vec![dns, log]))).await;
    let mut all = vec!["shop/cart:80", "shop/dns:80,53/udp", "shop/log:514/udp"];
    running.is_granted(&all, "shop/cart").await;
    let catalog = says(vec![service("shop/catalog")]);
    running.staging.agent.say(cluster_up::Message::Catalogue(catalog)).await;
    all.insert(1, "shop/catalog:80");
    running.is_granted(&all, "shop/cart").await;
    let widened = running.audited("session.widened").await;
    assert_eq!(widened["services"], json!(["shop/catalog"]), "the others were there");
    running.staging.agent.reports(&["shop/cart"]).await;
    running.is_granted(&["shop/cart:80"], "shop/cart").await;
}

#[tokio::test]
async fn a_service_that_is_deleted_and_made_again_stays_in_the_grant() {
    let mut running = running().await;
    running.staging.agent.reports(&[]).await;
    running.staging.agent.reports(&["shop/cart"]).await;
    running.staging.agent.reports(&["shop/cart", "shop/catalog"]).await;
    running.is_granted(&["shop/cart:80", "shop/catalog:80"], "shop/cart").await;
}

#[tokio::test]
async fn a_consume_is_changed_in_place_by_whoever_began_it() {
    let mut running = running().await;
    running.staging.agent.reports(&["shop/cart", "shop/catalog", "pay/ledger"]).await;
    running.is_granted(&["shop/cart:80", "shop/catalog:80"], "shop/cart").await;
    running.is_about(&running.olga, &["pay/*"]).await.with(404);
    let words = ["shop/*", "pay/*", "!shop/catalog"];
    let changed = running.is_about(&running.ada, &words).await.with(200);
    assert_eq!(id_of(&changed), running.session);
    assert_eq!(changed["session"]["patterns"], json!(words));
    assert_eq!(names(&changed["services"]), ["pay/ledger", "shop/cart"]);
    let heard = running.is_granted(&["pay/ledger:80", "shop/cart:80"], "shop/cart").await;
    assert_eq!(heard, words, "whoever did not get the answer hears what it is about");
    assert_eq!(running.audited("session.changed").await["patterns"], json!(words));

    let refused = running.is_about(&running.ada, &["pay/leger"]).await;
    assert_eq!(refused.hint(), "similar: `pay/ledger`");
    refused.with(404);
    let path = format!("/api/v1/sessions/{}", running.session);
    let shown = running.ada.get(&running.world, &path).await.with(200);
    assert_eq!((&shown["patterns"], &shown["ended_at"]), (&json!(words), &Value::Null));
    running.ada.delete(&running.world, &path).await.with(204);
    running.is_about(&running.ada, &words).await.with(409);
}

#[tokio::test]
async fn what_was_given_up_long_ago_may_be_forbidden() {
    let mut running = running().await;
    running.staging.agent.reports(&["shop/cart", "shop/catalog"]).await;
    running.is_granted(&["shop/cart:80", "shop/catalog:80"], "shop/cart").await;
    running.is_about(&running.ada, &["shop/*", "!shop/cart"]).await.with(200);
    running.is_granted(&["shop/catalog:80"], "shop/ca").await;
    running.world.sql(
        "update session_services set decided_at = decided_at - interval '16 minutes' where name = 'cart'",
    );
    let guard = r#"forbid(principal, action == Action::"consume", resource == Service::"staging/shop/cart");"#;
    publish(&running.world, &running.olga, &[("freeze", guard)]).await;
    running.staging.agent.reports(&["shop/cart", "shop/catalog", "shop/frontend"]).await;
    running.is_granted(&["shop/catalog:80", "shop/frontend:80"], "shop/catalog").await;
}
