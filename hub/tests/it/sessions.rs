//! Sessions: what begins, what is refused and why, and what ends them.

use std::time::{Duration, SystemTime};

use fairlead_hub::actions;
use fairlead_model::{ServicePort, Thumbprint};
use fairlead_wire::{
    grant::{GrantVerifier, GrantedService, unverified},
    link::v1::{Catalogue, CataloguePort, Heartbeat, Phase, cluster_down, cluster_up, laptop_up},
};
use hub_policy::PolicyText;
use hub_store::audit::Chain;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    peers::{Joined, service},
    people::{Answer, Person},
    world::{World, eventually, within},
};

pub(crate) fn id_of(begun: &Value) -> String {
    begun["session"]["id"].as_str().expect("an id").to_owned()
}

fn names(services: &Value) -> Vec<String> {
    let services = services.as_array().expect("a list").iter();
    services
        .map(|s| {
            format!(
                "{}/{}",
                s["namespace"].as_str().unwrap_or(""),
                s["name"].as_str().unwrap_or("")
            )
        })
        .collect()
}

pub(crate) async fn publish(world: &World, owner: &Person, policies: &[(&str, &str)]) {
    let texts = policies.iter().map(|(id, text)| PolicyText {
        id: (*id).to_owned(),
        label: String::new(),
        text: (*text).to_owned(),
    });
    actions::policies::publish(&world.hub, &owner.caller, texts.collect())
        .await
        .expect("published");
}

pub(crate) async fn has_ended(world: &World, person: &Person, session: &str) -> String {
    let path = format!("/api/v1/sessions/{session}");
    eventually("the session to end", async || {
        let shown = person.get(world, &path).await.with(200);
        shown["end_reason"].as_str().map(ToOwned::to_owned)
    })
    .await
}

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
    let catalogue = Catalogue { full: true, changed, deleted: Vec::new() };
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

/// A developer with a live consume, both ends connected.
struct Running {
    world: World,
    olga: Person,
    ada: Person,
    staging: Joined,
    laptop: crate::peers::LaptopLink,
    session: String,
}

async fn running() -> Running {
    let world = World::new().await;
    let olga = world.person("olga", "owners").await;
    let ada = world.person("ada", "developers").await;
    let mut staging = world.teamspace(&olga, "staging", &["shop/cart"]).await;
    let laptop = ada.laptop.connect(&world).await.expect("welcomed");
    let begun = ada.consumes(&world, staging.id, &["shop/*"]).await.with(201);
    staging.agent.wanted(|wanted| wanted.sessions.len() == 1).await;
    Running { world, olga, ada, staging, laptop, session: id_of(&begun) }
}

impl Running {
    /// Waits for a grant that is good by the hub's clock of this moment.
    async fn is_granted_anew(&mut self) {
        // The task looks every ten seconds, and a silent link is dead after fifteen.
        self.laptop.say(laptop_up::Message::Heartbeat(Heartbeat {})).await;
        let (verifier, device) = (self.verifier(), self.ada.laptop.key.thumbprint());
        let is_good = |jwt: &str, now: SystemTime| verifier.verify(jwt, now, &device).is_ok();
        while !is_good(&self.laptop.grant().await.grant, self.world.now().into()) {}
    }

    fn verifier(&self) -> GrantVerifier {
        let key: [u8; 32] = self.staging.reply.grant_key.clone().try_into().expect("32 bytes");
        GrantVerifier::new(&key, self.staging.id)
    }

    /// Waits until both ends have been told.
    async fn both_ends_are_told(&mut self) -> String {
        let told = self.staging.agent.revoked().await;
        assert_eq!(told.session_id, self.session);
        assert_eq!(self.laptop.revoked().await, told);
        self.staging.agent.wanted(|wanted| wanted.sessions.is_empty()).await;
        told.reason
    }
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
async fn the_laptop_hears_how_the_pods_of_a_headless_service_are_called_as_they_come_and_go() {
    let world = World::new().await;
    let olga = world.person("olga", "owners").await;
    let staging = world.teamspace(&olga, "staging", &["shop/cart"]).await;
    let with_pods = |pods: &[&str]| {
        let mut db = service("shop/db");
        "Headless".clone_into(&mut db.r#type);
        db.pods = pods.iter().map(ToString::to_string).collect();
        Catalogue { full: false, changed: vec![db], deleted: Vec::new() }
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

impl Running {
    /// Waits for grants until one names these services, each with its ports, and returns the words it came with. None
    /// before it may lack what `stays`.
    async fn is_granted(&mut self, wanted: &[&str], stays: &str) -> Vec<String> {
        let (verifier, device) = (self.verifier(), self.ada.laptop.key.thumbprint());
        loop {
            let message = self.laptop.grant().await;
            assert_eq!(message.session_id, self.session);
            let grant = verifier.verify(&message.grant, self.world.now().into(), &device);
            let granted: Vec<_> = grant.expect("valid").services.iter().map(in_words).collect();
            assert!(granted.iter().any(|service| service.starts_with(stays)), "{granted:?}");
            if granted == wanted {
                return message.patterns;
            }
        }
    }

    async fn is_about(&self, person: &Person, words: &[&str]) -> Answer {
        let path = format!("/api/v1/sessions/{}/patterns", self.session);
        person.ask(&self.world, Method::PUT, &path, Some(json!({ "patterns": words }))).await
    }

    async fn audited(&self, action: &str) -> Value {
        let audit = self.olga.get(&self.world, "/api/v1/audit").await.with(200);
        let mut entries = audit["entries"].as_array().expect("entries").clone();
        entries.retain(|entry| entry["action"] == action);
        entries.first().map(|entry| entry["detail"].clone()).unwrap_or_default()
    }
}

fn in_words(granted: &GrantedService) -> String {
    let ports: Vec<_> = granted.ports.iter().map(ToString::to_string).collect();
    format!("{}:{}", granted.service, ports.join(","))
}

#[tokio::test]
async fn a_consume_follows_the_catalogue() {
    let mut running = running().await;
    running.staging.agent.reports(&["shop/cart", "shop/catalog", "pay/ledger"]).await;
    running.is_granted(&["shop/cart:80", "shop/catalog:80"], "shop/cart").await;
    let mut changed = service("shop/catalog");
    changed.ports[0].port = 8080;
    let changed = Catalogue { full: false, changed: vec![changed], deleted: Vec::new() };
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
    let says = |changed| Catalogue { full: false, changed, deleted: Vec::new() };
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

#[tokio::test]
async fn the_audit_chain_holds_and_a_changed_row_breaks_it() {
    let running = running().await;
    let scope = running.world.hub.store.scoped(running.world.acme.id);
    let Chain::Intact { rows, .. } = scope.verify_audit().await.expect("read") else {
        panic!("the chain is whole")
    };
    assert!(rows >= 4);
    running.world.sql("update audit set subject = 'nothing' where seq = 3");
    assert_eq!(scope.verify_audit().await.expect("read"), Chain::Broken { at: 3 });
}
