//! Dialling a hub: whatever is wrong is told apart, because a person has to do something different about each.

#[path = "made/mod.rs"]
mod made;

use std::{
    future::{pending, ready},
    io::Write as _,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use fairlead_tunnel::{
    connect::{Connector, HubError, HubTrust, LinkWay, dial_hub, why_not_trusted},
    connection::Connection,
};
use fairlead_wire::link::v1::laptop_links_client::LaptopLinksClient;
use futures_util::stream::empty;
use made::{
    Authority, authority, certificate_for, hub, listener, server_config, speaking, trust_in,
    websocket_on,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::TlsAcceptor;
use tonic::Status;

async fn dial(host: &str, address: SocketAddr, trust: &HubTrust) -> Result<String, HubError> {
    let address = format!("https://{host}:{}", address.port());
    dial_hub(&address, &Connector::direct(trust.clone()))
        .await
        .map(|channel| channel.host().to_owned())
}

#[tokio::test]
async fn a_hub_whose_authority_was_named_is_trusted() {
    let authority = authority();
    let hub = hub(&authority, certificate_for("localhost")).await;
    let host = dial("localhost", hub, &trust_in(&authority)).await.expect("trusted");
    assert_eq!(host, "localhost");
}

#[tokio::test]
async fn a_hub_of_an_unknown_authority_is_not_trusted() {
    let hub = hub(&authority(), certificate_for("localhost")).await;
    let system = HubTrust::new(None).expect("read");
    for trust in [trust_in(&authority()), system] {
        let refused = dial("localhost", hub, &trust).await;
        assert!(matches!(refused, Err(HubError::NotTrusted { .. })), "{refused:?}");
    }
}

#[tokio::test]
async fn a_hub_with_another_name_says_which() {
    let authority = authority();
    let hub = hub(&authority, certificate_for("hub.example.com")).await;
    match dial("localhost", hub, &trust_in(&authority)).await {
        Err(HubError::OtherName { names, .. }) => {
            assert!(names.iter().any(|name| name.contains("hub.example.com")), "{names:?}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_hub_whose_certificate_has_expired_points_at_time() {
    let authority = authority();
    let mut params = certificate_for("localhost");
    params.not_after = (std::time::SystemTime::now() - Duration::from_secs(60)).into();
    let hub = hub(&authority, params).await;
    let refused = dial("localhost", hub, &trust_in(&authority)).await;
    assert!(matches!(refused, Err(HubError::NotAtThisTime { .. })), "{refused:?}");
}

#[tokio::test]
async fn where_nobody_listens_is_unreachable() {
    let address = listener().await.local_addr().expect("bound");
    let refused = dial("localhost", address, &trust_in(&authority())).await;
    assert!(matches!(refused, Err(HubError::Unreachable { .. })), "{refused:?}");
    let unknown = dial("no-such-host.invalid", address, &trust_in(&authority())).await;
    assert!(matches!(unknown, Err(HubError::Unreachable { .. })), "{unknown:?}");
}

#[tokio::test]
async fn what_speaks_no_tls_is_no_hub() {
    let listener = listener().await;
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        let (mut tcp, _): (TcpStream, _) = listener.accept().await.expect("dialled");
        drop(tcp.read(&mut [0; 16]).await);
        drop(tcp.try_write(b"HTTP/1.1 400 Bad Request\r\n\r\n"));
        drop(tcp.read(&mut [0; 1024]).await);
    });
    let refused = dial("localhost", address, &trust_in(&authority())).await;
    assert!(matches!(refused, Err(HubError::NotAHub { .. })), "{refused:?}");
}

/// As a proxy that opens TLS may do: some choose HTTP/1.1, some nothing.
#[tokio::test]
async fn who_does_not_speak_http_2_is_told_apart() {
    let authority = authority();
    for protocols in [&[b"http/1.1".as_slice()][..], &[]] {
        let hub = speaking(protocols, &authority, certificate_for("localhost")).await;
        let refused = dial("localhost", hub, &trust_in(&authority)).await;
        assert!(matches!(refused, Err(HubError::NoHttp2 { .. })), "{refused:?}");
    }
}

/// As an ingress does whose hub restarts.
#[tokio::test]
async fn a_hub_that_is_away_is_told_from_a_network_that_lets_nothing_through() {
    let authority = authority();
    for (status, is_absence) in [(502, true), (429, true), (403, false)] {
        let config = server_config(&[b"http/1.1"], &authority, certificate_for("localhost"));
        let (listener, acceptor) = (listener().await, TlsAcceptor::from(Arc::new(config)));
        let hub = listener.local_addr().expect("bound");
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let Ok(mut tls) = acceptor.accept(tcp).await else { continue };
                assert!(tls.read(&mut [0; 4096]).await.expect("a question") > 0);
                let answer = format!("HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n");
                tls.write_all(answer.as_bytes()).await.expect("taken");
            }
        });
        let refused = dial("localhost", hub, &trust_in(&authority)).await.expect_err("no hub");
        assert_eq!(refused.is_absence(), is_absence, "{refused:?}");
        assert_eq!(matches!(refused, HubError::NoHttp2 { .. }), !is_absence, "{refused:?}");
    }
}

/// A hub behind something that opens TLS, speaks these protocols, and lets nothing that is streamed through but WebSockets.
/// Counts those.
async fn opened_on_the_way(
    protocols: &[&[u8]],
    authority: &Authority,
) -> (String, Arc<AtomicUsize>) {
    let config = server_config(protocols, authority, certificate_for("localhost"));
    let (listener, acceptor) = (listener().await, TlsAcceptor::from(Arc::new(config)));
    let address = format!("https://localhost:{}", listener.local_addr().expect("bound").port());
    let websockets = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&websockets);
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let (acceptor, count) = (acceptor.clone(), Arc::clone(&count));
            tokio::spawn(async move {
                let Ok(tls) = acceptor.accept(tcp).await else { return };
                let io: Connection = if tls.get_ref().1.alpn_protocol() == Some(b"h2") {
                    Box::new(tls)
                } else {
                    let Ok(socket) = websocket_on(Box::new(tls)).await else { return };
                    count.fetch_add(1, Ordering::Relaxed);
                    Box::new(socket)
                };
                let Ok(mut http) = h2::server::handshake(io).await else { return };
                while let Some(Ok(_)) = http.accept().await {}
            });
        }
    });
    (address, websockets)
}

#[tokio::test]
async fn where_http_2_is_not_spoken_a_link_goes_inside_a_websocket() {
    let authority = authority();
    let (hub, websockets) = opened_on_the_way(&[b"http/1.1"], &authority).await;
    let (mut way, connector) = (LinkWay::default(), Connector::direct(trust_in(&authority)));
    way.dial(&hub, &connector).await.expect("it goes inside");
    dial_hub(&hub, &connector).await.expect("whoever has one thing to say finds it, too");
    assert_eq!((way.name(), websockets.load(Ordering::Relaxed)), ("a WebSocket", 2));
}

#[tokio::test]
async fn where_nothing_is_heard_the_next_link_goes_the_other_way_and_stays_until_it_is_refused() {
    let authority = authority();
    let (hub, websockets) = opened_on_the_way(&[b"h2", b"http/1.1"], &authority).await;
    let (mut way, connector) = (LinkWay::default(), Connector::direct(trust_in(&authority)));
    way.dial(&hub, &connector).await.expect("HTTP/2 is spoken");
    let silent = way.first_word(pending::<Result<(), Status>>()).await.expect_err("silence");
    assert!(silent.to_string().contains("nothing came back for 3 s"), "{silent}");
    way.dial(&hub, &connector).await.expect("it goes inside");
    assert_eq!(way.first_word(ready(Ok(7))).await.expect("heard"), 7);
    way.dial(&hub, &connector).await.expect("and stays there");
    assert_eq!(websockets.load(Ordering::Relaxed), 2);
    let nowhere = listener().await.local_addr().expect("bound");
    let lost = way.dial(&format!("https://localhost:{}", nowhere.port()), &connector).await;
    assert!(lost.is_err_and(|error| error.is_absence()) && way.is_in_websocket(), "it is away");
    let (elsewhere, _) = opened_on_the_way(&[b"h2"], &authority).await;
    way.dial(&elsewhere, &connector).await.expect_err("nobody speaks of WebSockets there");
    assert!(!way.is_in_websocket());
    way.dial(&elsewhere, &connector).await.expect("HTTP/2 is spoken");
}

/// As of a proxy that lets nothing through, or of an ingress whose hub has not understood it. What the client makes of it is
/// the client's own.
#[tokio::test]
async fn where_a_page_is_the_answer_the_next_link_goes_the_other_way() {
    for status in [200, 403, 404, 415, 502, 504] {
        let authority = authority();
        let hub = showing_a_page(status, &authority).await;
        let (mut way, connector) = (LinkWay::default(), Connector::direct(trust_in(&authority)));
        let channel = way.dial(&hub, &connector).await.expect("HTTP/2 is spoken").channel();
        let word = async {
            let mut link = LaptopLinksClient::new(channel).open(empty()).await?.into_inner();
            link.message().await
        };
        way.first_word(word).await.expect_err("a page");
        assert!(way.is_in_websocket(), "{status}");
    }
}

async fn showing_a_page(status: u16, authority: &Authority) -> String {
    let config = server_config(&[b"h2"], authority, certificate_for("localhost"));
    let (listener, acceptor) = (listener().await, TlsAcceptor::from(Arc::new(config)));
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.expect("dialled");
        let tls = acceptor.accept(tcp).await.expect("trusted");
        let mut http = h2::server::handshake(tls).await.expect("HTTP/2");
        while let Some(Ok((_, mut answer))) = http.accept().await {
            let head = http::Response::builder().status(status).header("content-type", "text/html");
            let head = head.body(()).expect("a head");
            let mut page = answer.send_response(head, false).expect("taken");
            page.send_data("<h1>No</h1>".into(), true).expect("taken");
        }
    });
    format!("https://localhost:{}", address.port())
}

#[test]
fn a_file_that_is_no_authority_is_named() {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(b"this is no certificate").expect("written");
    let refused = HubTrust::new(Some(file.path())).expect_err("nothing to trust").to_string();
    assert!(refused.contains(&*file.path().to_string_lossy()), "{refused}");
    assert!(HubTrust::new(Some("/no/such/file".as_ref())).is_err());
}

#[test]
fn the_reason_is_found_however_deep_it_lies() {
    use rustls::{CertificateError::UnknownIssuer, Error::InvalidCertificate};
    let tls = std::io::Error::other(InvalidCertificate(UnknownIssuer));
    let wrapped = std::io::Error::other(tls);
    assert_eq!(why_not_trusted(&wrapped), Some(&UnknownIssuer));
    assert_eq!(why_not_trusted(&std::io::Error::other("something else")), None);
}
