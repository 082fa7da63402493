//! Which way carriers take: the relay's own port while it is open, and a WebSocket at the hub's address where it is not.

#[path = "made/mod.rs"]
#[expect(dead_code, reason = "what is made is for other tests, too")]
mod made;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use fairlead_model::ProxySettings;
use fairlead_tunnel::connect::{Connector, Half, RelayError, WayClosed, Ways};
use fairlead_wire::{
    preface::{Answer, PREFACE_BYTES, Preface, Side},
    ticket::Ticket,
};
use futures_util::{SinkExt as _, StreamExt as _};
use made::{Authority, authority, certificate_for, listener, server_config, trust_in};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::{accept_async, tungstenite::Message};

static WAITING_THEN_PAIRED: [u8; 2] = [Answer::Waiting.code(), Answer::Paired.code()];
static WAITING: [u8; 1] = [Answer::Waiting.code()];
static REFUSED: [u8; 1] = [Answer::Refused.code()];

/// A hub that takes in carriers, and says which tickets it was shown.
struct Hub {
    address: SocketAddr,
    authority: Authority,
    shown_rx: mpsc::Receiver<Ticket>,
}

impl Hub {
    async fn new() -> Self {
        Self::at("localhost").await
    }

    async fn at(name: &str) -> Self {
        let authority = authority();
        let config = server_config(&[b"h2", b"http/1.1"], &authority, certificate_for(name));
        let (listener, tls) = (listener().await, TlsAcceptor::from(Arc::new(config)));
        let address = listener.local_addr().expect("bound");
        let (shown_tx, shown_rx) = mpsc::channel(8);
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (tls, shown_tx) = (tls.clone(), shown_tx.clone());
                tokio::spawn(async move {
                    let Ok(tls) = tls.accept(tcp).await else { return };
                    let mut socket = accept_async(tls).await.expect("a WebSocket");
                    let Some(Ok(Message::Binary(bytes))) = socket.next().await else { return };
                    let preface = bytes[..].try_into().ok().and_then(|b| Preface::parse(b).ok());
                    shown_tx.send(preface.expect("a preface").ticket).await.expect("heard");
                    let answer = Message::Binary(WAITING_THEN_PAIRED.to_vec().into());
                    socket.send(answer).await.expect("taken");
                    while let Some(Ok(_)) = socket.next().await {}
                });
            }
        });
        Self { address, authority, shown_rx }
    }

    fn ways(&self) -> Ways {
        let address = format!("https://localhost:{}", self.address.port());
        let connector = Connector::direct(trust_in(&self.authority));
        Ways::to_hub(&address, connector).expect("an address")
    }
}

/// Something at the relay's own port that says this to whoever shows a ticket, and then holds still.
async fn port_saying(words: &'static [u8]) -> String {
    let listener = listener().await;
    let address = listener.local_addr().expect("bound").to_string();
    tokio::spawn(say(listener, words));
    address
}

async fn say(listener: TcpListener, words: &'static [u8]) {
    while let Ok((mut tcp, _)) = listener.accept().await {
        tokio::spawn(async move {
            tcp.read_exact(&mut [0; PREFACE_BYTES]).await.expect("a preface");
            tcp.write_all(words).await.expect("taken");
            drop(tcp.read_u8().await);
        });
    }
}

async fn a_closed_port() -> SocketAddr {
    listener().await.local_addr().expect("bound")
}

async fn dials(ways: &Ways, relay: &str, ticket: &Ticket) -> Result<Half, RelayError> {
    ways.dial(relay, ticket, Side::Laptop).await
}

fn path(half: Result<Half, RelayError>) -> String {
    half.expect("a way").path.to_string()
}

#[tokio::test]
async fn an_open_port_is_taken() {
    let hub = Hub::new().await;
    let port = port_saying(&WAITING_THEN_PAIRED).await;
    assert_eq!(path(dials(&hub.ways(), &port, &Ticket::draw()).await), "raw");
}

#[tokio::test]
async fn a_closed_port_is_remembered_until_the_network_is_another() {
    let mut hub = Hub::new().await;
    let (ways, closed) = (hub.ways(), a_closed_port().await);
    let relay = closed.to_string();
    let ticket = Ticket::draw();
    assert_eq!(path(dials(&ways, &relay, &ticket).await), "wss");
    assert_eq!(hub.shown_rx.recv().await, Some(ticket));
    let opened = TcpListener::bind(closed).await.expect("still free");
    tokio::spawn(say(opened, &WAITING_THEN_PAIRED));
    assert_eq!(path(dials(&ways, &relay, &Ticket::draw()).await), "wss");
    ways.look_again();
    assert_eq!(path(dials(&ways, &relay, &Ticket::draw()).await), "raw");
}

#[tokio::test]
async fn a_port_that_was_closed_is_tried_again_after_a_while() {
    let hub = Hub::new().await;
    let (ways, closed) = (hub.ways(), a_closed_port().await);
    assert_eq!(path(dials(&ways, &closed.to_string(), &Ticket::draw()).await), "wss");
    let port = port_saying(&WAITING_THEN_PAIRED).await;
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(301)).await;
    tokio::time::resume();
    assert_eq!(path(dials(&ways, &port, &Ticket::draw()).await), "raw");
}

/// As in networks that let connections be made and then drop or reset what is no TLS.
#[tokio::test]
async fn who_takes_the_ticket_and_says_nothing_sensible_is_no_relay() {
    for words in [b"".as_slice(), b"HTTP/1.1 400 Bad Request\r\n\r\n"] {
        let mut hub = Hub::new().await;
        let listener = listener().await;
        let relay = listener.local_addr().expect("bound").to_string();
        tokio::spawn(async move {
            let (mut tcp, _) = listener.accept().await.expect("dialled");
            tcp.read_exact(&mut [0; PREFACE_BYTES]).await.expect("a preface");
            tcp.write_all(words).await.expect("taken");
        });
        let ticket = Ticket::draw();
        assert_eq!(path(dials(&hub.ways(), &relay, &ticket).await), "wss");
        assert_eq!(hub.shown_rx.recv().await, Some(ticket), "the same ticket is shown again");
    }
}

#[tokio::test]
async fn who_swallows_the_ticket_is_not_waited_for() {
    let hub = Hub::new().await;
    let listener = listener().await;
    let relay = listener.local_addr().expect("bound").to_string();
    tokio::spawn(async move {
        let (mut tcp, _) = listener.accept().await.expect("dialled");
        tcp.read_exact(&mut [0; PREFACE_BYTES]).await.expect("a preface");
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(4)).await;
        tokio::time::resume();
        drop(tcp.read_u8().await);
    });
    assert_eq!(path(dials(&hub.ways(), &relay, &Ticket::draw()).await), "wss");
}

#[tokio::test]
async fn a_relay_that_waits_for_the_other_half_is_waited_for() {
    let hub = Hub::new().await;
    let port = port_saying(&WAITING).await;
    let ways = hub.ways();
    tokio::time::pause();
    let begun = tokio::time::Instant::now();
    let late = dials(&ways, &port, &Ticket::draw()).await;
    assert!(matches!(late, Err(RelayError::TimedOut)), "{late:?}");
    assert!(begun.elapsed() >= Duration::from_secs(30), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_refused_ticket_is_not_shown_again() {
    let mut hub = Hub::new().await;
    let port = port_saying(&REFUSED).await;
    let refused = dials(&hub.ways(), &port, &Ticket::draw()).await;
    assert!(matches!(refused, Err(RelayError::Refused)), "{refused:?}");
    assert!(hub.shown_rx.try_recv().is_err());
}

#[tokio::test]
async fn where_both_ways_are_closed_both_reasons_are_said() {
    let hub = Hub::new().await;
    let connector = Connector::new(ProxySettings::default(), trust_in(&authority()));
    let address = format!("https://localhost:{}", hub.address.port());
    let ways = Ways::to_hub(&address, connector).expect("an address");
    let closed = a_closed_port().await.to_string();
    let error = dials(&ways, &closed, &Ticket::draw()).await.expect_err("no way");
    let RelayError::NoWay(why) = &error else { panic!("{error:?}") };
    assert!(
        matches!((&why.port, &why.web), (Some(WayClosed::Network(_)), WayClosed::Hub(_))),
        "{why:?}"
    );
    let said = error.to_string();
    assert!(said.contains("does not trust") && said.contains("refused"), "{said}");
}

/// A proxy that opens the way to the hub, and does something else with who wants the relay's own port.
async fn proxy(hub: SocketAddr, to_the_port: &'static [u8]) -> ProxySettings {
    let listener = listener().await;
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(tcp.read_u8().await.expect("a question"));
                }
                if head.starts_with(b"CONNECT relay.corp.invalid:8444 ") {
                    tcp.write_all(to_the_port).await.expect("taken");
                    return drop(tcp.read_u8().await);
                }
                tcp.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.expect("taken");
                let mut target = TcpStream::connect(hub).await.expect("it listens");
                drop(copy_bidirectional(&mut tcp, &mut target).await);
            });
        }
    });
    ProxySettings {
        https: Some(format!("http://{address}").parse().expect("an address")),
        ..ProxySettings::default()
    }
}

#[tokio::test]
async fn a_proxy_that_refuses_the_port_or_is_silent_about_it_leads_to_the_hub() {
    for to_the_port in [b"HTTP/1.1 403 Forbidden\r\n\r\n".as_slice(), b""] {
        let hub = Hub::at("hub.corp.invalid").await;
        let proxies = proxy(hub.address, to_the_port).await;
        let place = proxies.https.as_ref().expect("one").place();
        let connector = Connector::new(proxies, trust_in(&hub.authority));
        let ways = Ways::to_hub("https://hub.corp.invalid", connector).expect("an address");
        let half = dials(&ways, "relay.corp.invalid:8444", &Ticket::draw()).await;
        assert_eq!(path(half), format!("wss through proxy {place}"));
    }
}
