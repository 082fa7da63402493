//! Links and carriers: who is welcomed, what both ends are told, and that bytes pass from one to the other.

use fairlead_model::SessionId;
use fairlead_tunnel::{
    connect::{self, Connector},
    connection::Connection,
    websocket::{CARRIER_PATH, LINK_PATH, WebSocket},
};
use fairlead_wire::{
    challenge,
    key::Key,
    link::v1::{
        CarrierOffer, EnrolRequest, FurtherCarrier, Hello, Phase, SessionKind,
        cluster_links_client::ClusterLinksClient, cluster_up, laptop_down,
        laptop_links_client::LaptopLinksClient, laptop_up,
    },
    preface::{Answer, Preface, Side},
    ticket::Ticket,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time,
};
use tonic::{Code, Request, Status};

use crate::{
    peers::{AgentLink, Cluster, LaptopLink, channel, channel_in_a_websocket, enrol, observed},
    world::{HOST, PATIENCE, World, eventually},
};

fn ticket(offer: &CarrierOffer) -> Ticket {
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

async fn refused_laptop(world: &World, hello: impl FnOnce(&[u8]) -> Hello) -> tonic::Status {
    let mut link = LaptopLink::open(world).await.expect("open");
    let laptop_down::Message::Challenge(challenge) = link.next().await.expect("a challenge") else {
        panic!("a link begins with a challenge")
    };
    link.say(laptop_up::Message::Hello(hello(&challenge.nonce))).await;
    link.next().await.expect_err("refused")
}

#[tokio::test]
async fn a_laptop_proves_its_key_its_organization_and_its_time() {
    let world = World::new().await;
    let olga = world.person("olga", "owners").await;
    let hello = |signature: Vec<u8>| Hello {
        certificate_chain: vec![olga.laptop.certificate.to_vec()],
        signature,
        version: String::new(),
        name: String::new(),
        time_s: world.now().as_second(),
    };
    let other_key = Key::generate().expect("a key");
    let stolen =
        refused_laptop(&world, |nonce| hello(challenge::sign(&other_key, nonce, HOST).to_vec()))
            .await;
    assert_eq!(stolen.code(), Code::Unauthenticated);

    let for_another_hub = refused_laptop(&world, |nonce| {
        hello(challenge::sign(&olga.laptop.key, nonce, "evil.test").to_vec())
    })
    .await;
    assert_eq!(for_another_hub.code(), Code::Unauthenticated);

    let clock_off = refused_laptop(&world, |nonce| Hello {
        time_s: world.now().as_second() + 3600,
        ..hello(challenge::sign(&olga.laptop.key, nonce, HOST).to_vec())
    })
    .await;
    assert!(clock_off.message().contains("3600 s ahead"), "{}", clock_off.message());

    let no_certificate =
        refused_laptop(&world, |_| Hello { certificate_chain: vec![], ..hello(vec![]) }).await;
    assert_eq!(no_certificate.code(), Code::Unauthenticated);
}

#[tokio::test]
async fn a_certificate_of_another_organization_is_not_ours() {
    let world = World::new().await;
    let rival = world.organization("rival").await;
    let mallory = world.person_of(&rival, "mallory", &["owners"]).await;
    let olga = world.person("olga", "owners").await;
    // The rival's authority signs the name of a device of ours.
    let forged = {
        use fairlead_wire::{authority::DeviceRequest, identity::DeviceName};
        let request = DeviceRequest::make_pem(&mallory.laptop.key).expect("a request");
        let request = DeviceRequest::parse_pem(&request).expect("a request");
        let keys = world.hub.keys.organization(rival.id).await.expect("keys");
        let name = DeviceName {
            organization: world.acme.id,
            user: olga.caller.actor.user(),
            device: olga.laptop.id,
        };
        keys.authority.sign_device(&request, name, world.now().into()).expect("signed").certificate
    };
    let refused = refused_laptop(&world, |nonce| Hello {
        certificate_chain: vec![forged.to_vec()],
        signature: challenge::sign(&mallory.laptop.key, nonce, HOST).to_vec(),
        version: String::new(),
        name: String::new(),
        time_s: world.now().as_second(),
    })
    .await;
    assert!(
        refused.message().contains("not signed by the expected authority"),
        "{}",
        refused.message()
    );
}

#[tokio::test]
async fn a_link_begins_with_hello() {
    let world = World::new().await;
    let mut link = LaptopLink::open(&world).await.expect("open");
    link.next().await.expect("a challenge");
    link.say(laptop_up::Message::Observed(observed("x", Phase::Active, ""))).await;
    assert_eq!(link.next().await.expect_err("refused").code(), Code::InvalidArgument);
    let mut link = AgentLink::open(&world).await.expect("open");
    link.next().await.expect("a challenge");
    link.say(cluster_up::Message::Observed(observed("x", Phase::Active, ""))).await;
    assert_eq!(link.next().await.expect_err("refused").code(), Code::InvalidArgument);
}

#[tokio::test]
async fn nobody_says_much_before_they_are_known() {
    let world = World::new().await;
    let long = refused_laptop(&world, |_| Hello {
        certificate_chain: vec![vec![0; 1 << 20]],
        time_s: world.now().as_second(),
        ..Hello::default()
    })
    .await;
    assert_eq!(long.code(), Code::ResourceExhausted, "{}", long.message());
    let cluster = Cluster::new(&world, "somewhere");
    let long = EnrolRequest {
        teamspace_certificate: vec![0; 1 << 20],
        ..cluster.request(&world, &format!("flj_{}", "A".repeat(43)))
    };
    let refused = enrol(&world, long).await.expect_err("too long");
    assert_eq!(refused.code(), Code::ResourceExhausted, "{}", refused.message());
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

/// As where only the hub's own port is open: here the relay's is closed.
#[tokio::test]
async fn a_carrier_comes_over_the_hubs_own_port_and_is_cut_there_too() {
    let world = World::new().await;
    let olga = world.person("olga", "owners").await;
    let mut staging = world.teamspace(&olga, "staging", &["shop/cart"]).await;
    let mut laptop = olga.laptop.connect(&world).await.expect("welcomed");
    let begun = olga.consumes(&world, staging.id, &["shop/*"]).await.with(201);
    let session = begun["session"]["id"].as_str().expect("an id");
    laptop.asks_for_a_carrier(session, 1).await;
    let near = laptop.carrier().await.expect("offered");
    let far = staging.agent.carrier().await;
    let (mut near, mut far) = tokio::join!(
        over_the_hub(&world, ticket(&near), Side::Laptop),
        over_the_hub(&world, ticket(&far), Side::Cluster),
    );
    near.write_all(b"hello").await.expect("written");
    near.flush().await.expect("written");
    let mut heard = [0; 5];
    far.read_exact(&mut heard).await.expect("read");
    assert_eq!(&heard, b"hello");
    olga.delete(&world, &format!("/api/v1/sessions/{session}")).await.with(204);
    let end = time::timeout(PATIENCE, far.read(&mut heard)).await.expect("cut in time");
    assert!(matches!(end, Ok(0) | Err(_)), "the carrier outlived its session");
}

async fn over_the_hub(world: &World, ticket: Ticket, side: Side) -> WebSocket {
    let tcp = TcpStream::connect(world.address).await.expect("listening");
    let socket = WebSocket::dial(Box::new(tcp), HOST, world.address.port(), CARRIER_PATH).await;
    let mut socket = socket.expect("opened");
    socket.write_all(&Preface { side, ticket }.encode()).await.expect("taken");
    loop {
        match Answer::parse(socket.read_u8().await.expect("an answer")) {
            Some(Answer::Waiting) => {}
            answer => {
                assert_eq!(answer, Some(Answer::Paired));
                return socket;
            }
        }
    }
}

#[tokio::test]
async fn whoever_asks_for_no_websocket_is_told_so_where_carriers_and_links_come_in() {
    let world = World::new().await;
    for path in ["/carrier/v1", "/link/v1"] {
        let answer = reqwest::get(world.url(path)).await.expect("it answers");
        assert_eq!(answer.status(), 426, "{path}");
        assert_eq!(answer.headers()["upgrade"], "websocket");
    }
}

#[tokio::test]
async fn a_link_inside_a_websocket_is_as_any_other() {
    let world = World::new().await;
    let olga = world.person("olga", "owners").await;
    let mut staging = world.teamspace(&olga, "staging", &["shop/cart"]).await;
    let channel = channel_in_a_websocket(&world).await;
    let mut laptop = olga.laptop.connect_over(channel, &world).await.expect("welcomed");
    let begun = olga.consumes(&world, staging.id, &["shop/*"]).await.with(201);
    let session = begun["session"]["id"].as_str().expect("an id");
    laptop.asks_for_a_carrier(session, 7).await;
    assert_eq!(laptop.carrier().await.expect("offered").request_id, 7);
    staging.agent.carrier().await;
    let stranger = Cluster::new(&world, "uid-of-nobody");
    let request = stranger.request(&world, "flj_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
    let mut links = ClusterLinksClient::new(channel_in_a_websocket(&world).await);
    let refused = links.enrol(request).await.expect_err("a token that nobody made");
    assert_eq!(refused.code(), Code::Unauthenticated);
}

/// It comes from where its WebSocket comes from, whatever it says inside.
#[tokio::test]
async fn a_stranger_inside_a_websocket_is_counted_as_any_other() {
    let world = World::configured(|config| {
        config.trusted_proxies = vec!["127.0.0.0/8".parse().expect("a network")];
    })
    .await;
    let links = ClusterLinksClient::new(channel_in_a_websocket(&world).await);
    let mut guesses = JoinSet::new();
    for guess in 0..1000 {
        let (mut links, mut request) = (links.clone(), Request::new(EnrolRequest::default()));
        let elsewhere = format!("203.0.113.{}", guess % 256).parse().expect("a value");
        request.metadata_mut().insert("x-forwarded-for", elsewhere);
        guesses.spawn(async move { links.enrol(request).await.expect_err("it says no time") });
    }
    let refused = guesses.join_all().await;
    let counted = |status: &&Status| status.code() == Code::ResourceExhausted;
    let told = refused.iter().find(counted).expect("it could guess as often as it liked");
    assert!(told.message().contains("try again in 1 s"), "{told}");
    // By its own address, as everywhere else.
    let links = LaptopLinksClient::new(channel(&world).await);
    let mut knocks = JoinSet::new();
    for _ in 0..100 {
        let mut links = links.clone();
        knocks.spawn(async move { links.open(tokio_stream::empty()).await.map(drop) });
    }
    let knocks = knocks.join_all().await;
    let is_told = |knock: &Result<_, Status>| knock.as_ref().is_err_and(|told| counted(&told));
    assert!(knocks.iter().any(is_told), "from here nobody has called");
}

/// Nobody needs one who does not say what for.
#[tokio::test]
async fn a_websocket_in_which_nobody_opens_a_link_is_closed() {
    let world = World::new().await;
    let tcp = TcpStream::connect(world.address).await.expect("listening");
    let socket = WebSocket::dial(Box::new(tcp), HOST, world.address.port(), LINK_PATH).await;
    let mut heard = Vec::new();
    let ended = time::timeout(PATIENCE, socket.expect("opened").read_to_end(&mut heard)).await;
    drop(ended.expect("closed in time"));
}

#[tokio::test]
async fn whoever_asks_for_another_version_of_the_link_learns_that_there_is_none() {
    let world = World::new().await;
    let to_newer = |mut request: http::Request<tonic::body::Body>| {
        let newer = request.uri().to_string().replace("link.v1", "link.v9");
        *request.uri_mut() = newer.parse().expect("a URI");
        request
    };
    let newer = tower::util::MapRequest::new(channel(&world).await, to_newer);
    let refused = LaptopLinksClient::new(newer).open(tokio_stream::empty()).await;
    assert_eq!(refused.expect_err("unknown").code(), Code::Unimplemented);
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
