//! Links and carriers: what both ends are told, and that bytes pass from one to the other.

use fairlead_model::SessionId;
use fairlead_tunnel::{
    connect::{self, Connector},
    connection::Connection,
};
use fairlead_wire::{
    link::v1::{CarrierOffer, FurtherCarrier, Phase, SessionKind, cluster_up},
    preface::Side,
    ticket::Ticket,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time,
};

use crate::world::{PATIENCE, World, eventually};

pub(crate) fn ticket(offer: &CarrierOffer) -> Ticket {
    Ticket::from_slice(&offer.ticket).expect("32 bytes")
}

/// Dials the relay from both ends at once, as they do.
async fn both_dial(laptop: &CarrierOffer, cluster: &CarrierOffer) -> (Connection, Connection) {
    let (laptop_ticket, cluster_ticket) = (ticket(laptop), ticket(cluster));
    let direct = Connector::default();
    let (near, far) = tokio::join!(
        connect::dial_relay(&laptop.relay, &laptop_ticket, Side::Laptop, &direct),
        connect::dial_relay(&cluster.relay, &cluster_ticket, Side::Cluster, &direct),
    );
    (near.expect("paired"), far.expect("paired"))
}

#[tokio::test]
async fn a_consumes_carrier_is_offered_to_both_ends_and_bytes_pass() {
    let world = World::new().await;
    let olga = world.person("olga", "owners").await;
    let mut staging = world.teamspace(&olga, "staging", &["shop/cart"]).await;
    let mut laptop = olga.laptop.connect(&world).await.expect("welcomed");
    let begun = olga.consumes(&world, staging.id, &["shop/*"]).await.with(201);
    let session = begun["session"]["id"].as_str().expect("an id");
    laptop.asks_for_a_carrier(session, 42).await;
    let near = laptop.carrier().await.expect("offered");
    let far = staging.agent.carrier().await;
    assert_eq!((near.request_id, near.kind()), (42, SessionKind::Consume));
    assert_eq!(near.carrier_id, far.carrier_id);
    assert_eq!(near.teamspace_certificate, staging.cluster.authority.certificate().to_vec());
    assert_eq!(far.device_thumbprint, olga.laptop.key.thumbprint().as_bytes());
    assert!(near.device_thumbprint.is_empty() && far.teamspace_certificate.is_empty());

    let (mut at_laptop, mut at_cluster) = both_dial(&near, &far).await;
    at_laptop.write_all(b"hello").await.expect("written");
    let mut heard = [0; 5];
    at_cluster.read_exact(&mut heard).await.expect("read");
    assert_eq!(&heard, b"hello");

    olga.delete(&world, &format!("/api/v1/sessions/{session}")).await.with(204);
    let end = time::timeout(PATIENCE, at_cluster.read(&mut heard)).await.expect("cut in time");
    assert!(matches!(end, Ok(0) | Err(_)), "the carrier outlived its session");
}

#[tokio::test]
async fn a_ticket_is_good_once_and_for_one_side() {
    let world = World::new().await;
    let olga = world.person("olga", "owners").await;
    let mut staging = world.teamspace(&olga, "staging", &["shop/cart"]).await;
    let mut laptop = olga.laptop.connect(&world).await.expect("welcomed");
    let begun = olga.consumes(&world, staging.id, &["shop/*"]).await.with(201);
    let session = begun["session"]["id"].as_str().expect("an id");
    laptop.asks_for_a_carrier(session, 1).await;
    let near = laptop.carrier().await.expect("offered");
    let far = staging.agent.carrier().await;
    let other_side =
        connect::dial_relay(&near.relay, &ticket(&near), Side::Cluster, &Connector::default())
            .await;
    assert!(other_side.is_err(), "a laptop's ticket opened the cluster's side");

    laptop.asks_for_a_carrier(session, 2).await;
    let near = laptop.carrier().await.expect("offered");
    let far_again = staging.agent.carrier().await;
    assert_ne!(far.ticket, far_again.ticket);
    let _pair = both_dial(&near, &far_again).await;
    let replayed =
        connect::dial_relay(&near.relay, &ticket(&near), Side::Laptop, &Connector::default()).await;
    assert!(replayed.is_err(), "a ticket was good twice");
}

#[tokio::test]
async fn an_intercepts_carrier_is_offered_without_anybody_asking() {
    let world = World::new().await;
    let olga = world.person("olga", "owners").await;
    let mut staging = world.teamspace(&olga, "staging", &["shop/cart"]).await;
    let mut laptop = olga.laptop.connect(&world).await.expect("welcomed");
    olga.intercepts(&world, staging.id, "shop/cart").await.with(201);
    let wanted = staging.agent.wanted(|wanted| wanted.sessions.len() == 1).await;
    let session = &wanted.sessions[0];
    assert_eq!(session.kind(), SessionKind::Intercept);
    assert_eq!(session.service.as_ref().expect("a service").name, "cart");
    assert_eq!((session.ports[0].service_port, session.ports[0].laptop_port), (80, 3000));
    assert_eq!(session.grace_s, 15);
    let near = laptop.carrier().await.expect("offered");
    assert_eq!((near.request_id, near.kind()), (0, SessionKind::Intercept));
    assert_eq!(near.carrier_id, staging.agent.carrier().await.carrier_id);

    // Both come back, and each gets its half of a new one.
    drop(staging.agent);
    let mut agent = staging.cluster.connect(&world).await.expect("welcomed");
    agent.wanted(|wanted| wanted.sessions.len() == 1).await;
    let again = laptop.carrier().await.expect("offered again");
    assert_eq!(again.carrier_id, agent.carrier().await.carrier_id);
}

#[tokio::test]
async fn an_agent_gets_further_carriers_of_an_intercept_and_of_nothing_else() {
    let world = World::new().await;
    let olga = world.person("olga", "owners").await;
    let mut staging = world.teamspace(&olga, "staging", &["shop/cart", "shop/pay"]).await;
    let mut laptop = olga.laptop.connect(&world).await.expect("welcomed");
    let consume = olga.consumes(&world, staging.id, &["shop/pay"]).await.with(201);
    let intercept = olga.intercepts(&world, staging.id, "shop/cart").await.with(201);
    let first = laptop.carrier().await.expect("offered");
    assert_eq!(first.carrier_id, staging.agent.carrier().await.carrier_id);
    assert!(!first.further, "it is the first one");

    for begun in [&consume, &intercept] {
        let session_id = begun["session"]["id"].as_str().expect("an id").to_owned();
        let wanted = FurtherCarrier { session_id };
        staging.agent.say(cluster_up::Message::FurtherCarrier(wanted)).await;
    }
    // Messages of a link are taken in their order: what was asked for the consume came to nothing.
    let near = laptop.carrier().await.expect("offered");
    let far = staging.agent.carrier().await;
    assert_eq!(near.carrier_id, far.carrier_id);
    assert_eq!((near.request_id, near.kind()), (0, SessionKind::Intercept));
    assert!(near.further && far.further);
}

#[tokio::test]
async fn a_laptop_that_comes_back_hears_of_its_sessions_and_gets_fresh_grants() {
    let world = World::new().await;
    let olga = world.person("olga", "owners").await;
    let staging = world.teamspace(&olga, "staging", &["shop/cart"]).await;
    let begun = olga.consumes(&world, staging.id, &["shop/*"]).await.with(201);
    let session = begun["session"]["id"].as_str().expect("an id");
    let mut laptop = olga.laptop.connect(&world).await.expect("welcomed");
    assert_eq!(laptop.live_sessions, [session]);
    assert_eq!(laptop.grant().await.session_id, session);
}

#[tokio::test]
async fn the_latest_link_of_a_laptop_wins() {
    let world = World::new().await;
    let olga = world.person("olga", "owners").await;
    let mut first = olga.laptop.connect(&world).await.expect("welcomed");
    let _second = olga.laptop.connect(&world).await.expect("welcomed");
    first.is_ended().await;
}

#[tokio::test]
async fn no_carrier_for_a_session_of_another_laptop() {
    let world = World::new().await;
    let olga = world.person("olga", "owners").await;
    let bob = world.person("bob", "developers").await;
    let staging = world.teamspace(&olga, "staging", &["shop/cart"]).await;
    let begun = olga.consumes(&world, staging.id, &["shop/*"]).await.with(201);
    let session = begun["session"]["id"].as_str().expect("an id");
    let mut laptop = bob.laptop.connect(&world).await.expect("welcomed");
    laptop.asks_for_a_carrier(session, 1).await;
    assert_eq!(laptop.carrier().await.expect_err("refused"), "there is no such session");
    laptop.asks_for_a_carrier("nonsense", 2).await;
    assert!(laptop.carrier().await.is_err());
}

#[tokio::test]
async fn no_carrier_without_an_agent() {
    let world = World::new().await;
    let olga = world.person("olga", "owners").await;
    let staging = world.teamspace(&olga, "staging", &["shop/cart"]).await;
    let begun = olga.consumes(&world, staging.id, &["shop/*"]).await.with(201);
    let session = begun["session"]["id"].as_str().expect("an id");
    drop(staging.agent);
    let mut laptop = olga.laptop.connect(&world).await.expect("welcomed");
    let mut reason = String::new();
    for request_id in 1..200 {
        laptop.asks_for_a_carrier(session, request_id).await;
        match laptop.carrier().await {
            Ok(_) => time::sleep(std::time::Duration::from_millis(20)).await,
            Err(refused) => {
                reason = refused;
                break;
            }
        }
    }
    assert_eq!(reason, "no agent of teamspace `staging` is connected to the hub");
}

#[tokio::test]
async fn an_agent_speaks_only_of_sessions_in_its_own_teamspace() {
    let world = World::new().await;
    let olga = world.person("olga", "owners").await;
    let staging = world.teamspace(&olga, "staging", &["shop/cart"]).await;
    let other = world.teamspace(&olga, "production", &["shop/cart"]).await;
    let begun = olga.intercepts(&world, staging.id, "shop/cart").await.with(201);
    let session = begun["session"]["id"].as_str().expect("an id");
    other.agent.observes(session, Phase::Ended, "not yours").await;
    // Messages of one link are taken in their order: when this one counts, the one before it was looked at.
    other.agent.reports(&[]).await;
    crate::world::eventually("the message after it", async || {
        let path = format!("/api/v1/teamspaces/{}", other.id);
        (olga.get(&world, &path).await.with(200)["services"] == 0).then_some(())
    })
    .await;
    let shown = olga.get(&world, &format!("/api/v1/sessions/{session}")).await.with(200);
    assert_eq!(shown["ended_at"], serde_json::Value::Null);
}

#[tokio::test]
async fn an_agent_that_is_known_may_report_a_large_cluster() {
    let world = World::new().await;
    let olga = world.person("olga", "owners").await;
    let names: Vec<_> = (0..700).map(|n| format!("shop/a-service-with-a-long-name-{n}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    // Waits until the hub has them all.
    world.teamspace(&olga, "staging", &names).await;
}

#[tokio::test]
async fn a_laptop_hears_what_has_ended_while_it_was_connecting() {
    let world = World::new().await;
    let olga = world.person("olga", "owners").await;
    let staging = world.teamspace(&olga, "staging", &["shop/cart"]).await;
    let begun = olga.consumes(&world, staging.id, &["shop/*"]).await.with(201);
    let session: SessionId =
        begun["session"]["id"].as_str().expect("an id").parse().expect("an id");
    olga.delete(&world, &format!("/api/v1/sessions/{session}")).await.with(204);
    let mut laptop = olga.laptop.connect(&world).await.expect("welcomed");
    assert!(laptop.live_sessions.is_empty());
    // As if the welcome had been written just before the end.
    world.hub.changes.laptop_connected(world.acme.id, olga.laptop.id, vec![session]).await;
    assert_eq!(laptop.revoked().await.session_id, session.to_string());
}

#[tokio::test]
async fn a_teamspace_that_was_closed_unheard_keeps_no_link() {
    let world = World::new().await;
    let olga = world.person("olga", "owners").await;
    let mut locked = world.teamspace(&olga, "locked", &[]).await;
    let mut retaken = world.teamspace(&olga, "retaken", &[]).await;
    // No hint comes of either: it was lost.
    world.sql(
        "update teamspaces set locked_at = now(), lock_reason = 'a copy' where name = 'locked';
         update teamspaces set key_thumbprint = sha256('another') where name = 'retaken';",
    );
    for agent in [&mut locked.agent, &mut retaken.agent] {
        let ended = async {
            loop {
                if let Err(status) = agent.next().await {
                    break status;
                }
            }
        };
        let status = time::timeout(3 * PATIENCE, ended).await.expect("the link ends");
        // And not because nothing was heard of the agent.
        assert!(status.message().contains("the teamspace is closed"), "{status}");
    }
}

#[tokio::test]
async fn what_a_newer_agent_says_that_this_hub_does_not_know_costs_nothing() {
    let world = World::new().await;
    let olga = world.person("olga", "owners").await;
    let staging = world.teamspace(&olga, "staging", &["shop/cart"]).await;
    staging.agent.says_something_new().await;
    staging.agent.reports(&["shop/cart", "shop/catalog"]).await;
    let services = format!("/api/v1/teamspaces/{}/services", staging.id);
    eventually("the link to go on", async || {
        let shown = olga.get(&world, &services).await.with(200);
        (shown["services"].as_array()?.len() == 2).then_some(())
    })
    .await;
}
