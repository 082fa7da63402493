//! Halves that come in WebSockets: what a carrier promises holds, whichever way each half took.

use fairlead_model::timers::PREFACE;
use fairlead_tunnel::{
    Ending,
    abortable::Abortable,
    connection::Connection as Wire,
    websocket::{CARRIER_PATH, WebSocket, agree},
};
use fairlead_wire::{
    preface::{Answer, Preface, Side},
    ticket::Ticket,
};
use hub_relay::{CarrierMeta, Limits, Relay};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::world::{Connection, PATIENCE, World, in_time, noise};

const MEGABYTES: usize = 4 << 20;

/// The hub's own port, as far as carriers are concerned.
async fn port(relay: &Relay) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let relay = relay.clone();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let Some(stranger) = relay.let_in() else { continue };
            let (connection, abort) = Abortable::new(tcp);
            tokio::spawn(stranger.comes_in(upgraded(Box::new(connection)), abort));
        }
    });
    address
}

/// What an HTTP server does before.
async fn upgraded(mut io: Wire) -> std::io::Result<Wire> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(io.read_u8().await?);
    }
    let head = String::from_utf8(head).expect("text");
    let mut request = http::Request::builder();
    for (name, value) in head.lines().skip(1).filter_map(|line| line.split_once(": ")) {
        request = request.header(name, value);
    }
    let answer = agree(&request.body(()).expect("a request")).expect("it asks for a WebSocket");
    let mut text = "HTTP/1.1 101 Switching Protocols\r\n".to_owned();
    for (name, value) in answer.headers() {
        text.push_str(&format!("{name}: {}\r\n", value.to_str().expect("text")));
    }
    io.write_all(format!("{text}\r\n").as_bytes()).await?;
    Ok(io)
}

async fn knock(port: std::net::SocketAddr) -> WebSocket {
    let tcp = TcpStream::connect(port).await.expect("listening");
    WebSocket::dial(Box::new(tcp), "localhost", 80, CARRIER_PATH).await.expect("opened")
}

/// Shows a ticket over a WebSocket and returns what the relay says to it last.
async fn shown(
    port: std::net::SocketAddr,
    ticket: &Ticket,
    side: Side,
) -> (WebSocket, Option<Answer>) {
    let mut socket = knock(port).await;
    let preface = Preface { side, ticket: ticket.clone() };
    socket.write_all(&preface.encode()).await.expect("taken");
    loop {
        match socket.read_u8().await.ok().and_then(Answer::parse) {
            Some(Answer::Waiting) => {}
            answer => return (socket, answer),
        }
    }
}

/// Which half comes in a WebSocket; the other one comes to the raw port.
#[derive(Clone, Copy, Debug)]
enum Web {
    Laptop,
    Cluster,
    Both,
}

async fn joined(world: &World, web: Web) -> (CarrierMeta, Wire, Wire) {
    let (meta, offer) = world.offer();
    let port = port(&world.relay).await;
    let half = |is_web: bool, ticket: Ticket, side| async move {
        if !is_web {
            return world.dial(&ticket, side).await.expect("joined");
        }
        let (socket, answer) = shown(port, &ticket, side).await;
        assert_eq!(answer, Some(Answer::Paired));
        Box::new(socket) as Wire
    };
    let (laptop, cluster) = tokio::join!(
        half(!matches!(web, Web::Cluster), offer.laptop, Side::Laptop),
        half(!matches!(web, Web::Laptop), offer.cluster, Side::Cluster),
    );
    (meta, laptop, cluster)
}

#[tokio::test(flavor = "multi_thread")]
async fn megabytes_arrive_whole_both_ways_at_once() {
    for web in [Web::Laptop, Web::Cluster, Web::Both] {
        let world = World::new().await;
        let (meta, laptop, cluster) = joined(&world, web).await;
        let path = world.consume_over(meta, laptop, cluster).await.path().await;
        let Connection { app, service, daemon } = path.connect().await;
        let (up, down) = (noise(MEGABYTES), noise(MEGABYTES));
        let (at_service, at_app) = tokio::join!(
            crate::bytes::talk(service, down.clone()),
            crate::bytes::talk(app, up.clone())
        );
        assert!(at_service == up && at_app == down, "{web:?}");
        assert!(
            matches!(in_time(daemon).await.expect("no panic").ending, Ending::Clean),
            "{web:?}"
        );
    }
}

#[tokio::test]
async fn a_cut_ends_streams_at_once_and_nobody_takes_it_for_an_end() {
    for web in [Web::Laptop, Web::Cluster, Web::Both] {
        let world = World::new().await;
        let (meta, laptop, cluster) = joined(&world, web).await;
        let path = world.consume_over(meta, laptop, cluster).await.path().await;
        let Connection { mut app, mut service, .. } = path.connect().await;
        assert_eq!(world.relay.cut_session(meta.session), 1);
        for tcp in [&mut app, &mut service] {
            let error = in_time(tcp.read(&mut [0; 16])).await.expect_err("no end was sent");
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{web:?}");
        }
    }
}

/// What is on its way must not arrive any more: a close in good order would deliver it.
#[tokio::test]
async fn a_cut_is_an_abort_on_the_wire() {
    let world = World::new().await;
    let (meta, mut laptop, mut cluster) = joined(&world, Web::Both).await;
    laptop.write_all(b"x").await.expect("taken");
    laptop.flush().await.expect("taken");
    in_time(cluster.read_exact(&mut [0])).await.expect("through");
    world.relay.cut_session(meta.session);
    for half in [&mut laptop, &mut cluster] {
        let error = in_time(half.read_u8()).await.expect_err("it was cut");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
}

#[tokio::test]
async fn an_end_is_passed_on() {
    let world = World::new().await;
    for web in [Web::Laptop, Web::Cluster, Web::Both] {
        let (_, mut laptop, mut cluster) = joined(&world, web).await;
        laptop.write_all(b"the end").await.expect("taken");
        laptop.shutdown().await.expect("ended");
        let mut heard = String::new();
        in_time(cluster.read_to_string(&mut heard)).await.expect("an end");
        assert_eq!(heard, "the end", "{web:?}");
        drop((laptop, cluster));
    }
    assert_eq!(in_time(world.relay.drain(PATIENCE)).await, 0, "every carrier has ended by itself");
}

#[tokio::test]
async fn a_ticket_is_good_once_whichever_way_it_is_shown() {
    let world = World::new().await;
    let (_, offer) = world.offer();
    let port = port(&world.relay).await;
    let (laptop, cluster) = tokio::join!(
        shown(port, &offer.laptop, Side::Laptop),
        world.dial(&offer.cluster, Side::Cluster)
    );
    assert_eq!((laptop.1, cluster.is_ok()), (Some(Answer::Paired), true));
    let (_socket, again) = in_time(shown(port, &offer.laptop, Side::Laptop)).await;
    assert_eq!(again, Some(Answer::Refused));
    assert!(in_time(world.dial(&offer.laptop, Side::Laptop)).await.is_err());
    let (_socket, unknown) = in_time(shown(port, &Ticket::draw(), Side::Cluster)).await;
    assert_eq!(unknown, Some(Answer::Refused));
}

#[tokio::test]
async fn a_half_that_hangs_up_leaves_nothing_behind() {
    let world = World::new().await;
    let (_, offer) = world.offer();
    let port = port(&world.relay).await;
    let mut socket = knock(port).await;
    let preface = Preface { side: Side::Laptop, ticket: offer.laptop };
    socket.write_all(&preface.encode()).await.expect("taken");
    assert_eq!(socket.read_u8().await.ok().and_then(Answer::parse), Some(Answer::Waiting));
    drop(socket);
    assert!(in_time(world.dial(&offer.cluster, Side::Cluster)).await.is_err());
    assert_eq!(in_time(world.relay.drain(PATIENCE)).await, 0, "there was nothing left to cut");
}

#[tokio::test]
async fn strangers_are_few_and_have_little_time_whichever_way_they_come() {
    let world = World::with_limits(Limits { strangers: 1, ..Limits::default() }).await;
    let port = port(&world.relay).await;
    let mut silent = knock(port).await;
    assert!(world.relay.let_in().is_none(), "the place is taken");
    let mut second = TcpStream::connect(&world.address).await.expect("listening");
    let read = in_time(second.read(&mut [0])).await;
    assert!(matches!(read, Ok(0) | Err(_)), "the raw port has the same places: {read:?}");
    tokio::time::pause();
    let read = tokio::time::timeout(PREFACE * 2, silent.read(&mut [0])).await;
    assert!(matches!(read, Ok(Ok(0) | Err(_))), "closed in time");
    in_time(async {
        while world.relay.let_in().is_none() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_relay_that_stops_lets_nobody_in() {
    let world = World::new().await;
    assert!(world.relay.let_in().is_some());
    world.relay.drain(PATIENCE).await;
    assert!(world.relay.let_in().is_none());
}
