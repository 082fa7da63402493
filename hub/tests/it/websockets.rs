//! Links and carriers that come inside WebSockets, at the hub's own port.

use fairlead_tunnel::websocket::{CARRIER_PATH, LINK_PATH, WebSocket};
use fairlead_wire::{
    link::v1::{
        EnrolRequest, cluster_links_client::ClusterLinksClient,
        laptop_links_client::LaptopLinksClient,
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
    links::ticket,
    peers::{Cluster, channel, channel_in_a_websocket},
    world::{HOST, PATIENCE, World},
};

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

/// Such a link does not hear that the hub stops, and would keep it from ending.
#[tokio::test]
async fn a_link_inside_a_websocket_is_cut_soon_after_the_hub_stops() {
    let world = World::new().await;
    let olga = world.person("olga", "owners").await;
    let channel = channel_in_a_websocket(&world).await;
    let mut laptop = olga.laptop.connect_over(channel, &world).await.expect("welcomed");
    world.hub.stopping.cancel();
    let cut = async { while laptop.next().await.is_ok() {} };
    time::timeout(PATIENCE, cut).await.expect("it went on");
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

/// As many links may wait for their welcome from one address. Others are not kept out by it.
#[tokio::test]
async fn one_address_holds_no_more_websockets_without_a_link_than_its_share() {
    let world = World::new().await;
    let mut held = JoinSet::new();
    for _ in 0..300 {
        let address = world.address;
        held.spawn(async move {
            let tcp = TcpStream::connect(address).await.expect("listening");
            WebSocket::dial(Box::new(tcp), HOST, address.port(), LINK_PATH).await
        });
    }
    let held = held.join_all().await;
    assert_eq!(held.iter().filter(|opened| opened.is_ok()).count(), 256);
}
