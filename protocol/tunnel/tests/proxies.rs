//! Through proxies, good and bad. What a bad one does is bounded, and the message names it, without its password.

#[path = "made/mod.rs"]
#[expect(dead_code, reason = "what is made is for other tests, too")]
mod made;

use std::{net::SocketAddr, sync::Arc};

use fairlead_model::ProxySettings;
use fairlead_tunnel::connect::{Connector, HubError, ProxyError, dial_hub};
use made::{Authority, authority, certificate_for, hub, listener, server_config, trust_in};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, copy_bidirectional},
    net::TcpStream,
};
use tokio_rustls::TlsAcceptor;

/// No resolver knows it: whoever gets there was led there by a proxy.
const HUB: &str = "hub.corp.invalid";
const BASIC: &str = "proxy-authorization: basic ywrhonbac3m="; // ada:p@ss
const BEYOND_PATIENCE_S: u64 = 60;

fn through(proxy: &str, authority: &Authority) -> Connector {
    let settings = ProxySettings {
        https: Some(proxy.parse().expect("an address")),
        ..ProxySettings::default()
    };
    Connector::new(settings, trust_in(authority))
}

async fn dials(connector: &Connector) -> Result<(), HubError> {
    dial_hub(&format!("https://{HUB}"), connector).await.map(drop)
}

/// Serves each connection on loopback by `act`.
async fn serve<A, F>(act: A) -> SocketAddr
where
    A: Fn(TcpStream) -> F + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let listener = listener().await;
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            tokio::spawn(act(tcp));
        }
    });
    address
}

async fn head_of(io: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(io.read_u8().await.expect("a whole question"));
    }
    String::from_utf8(head).expect("text").to_lowercase()
}

/// What squid does: asks who is there, and leads to the hub whoever says it.
async fn be_a_good_proxy(mut io: impl AsyncRead + AsyncWrite + Unpin, hub: SocketAddr) {
    let asked = head_of(&mut io).await;
    assert!(asked.starts_with(&format!("connect {HUB}:443 http/1.1\r\n")), "{asked}");
    if !asked.contains(BASIC) {
        let refusal = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n";
        return io.write_all(refusal).await.expect("taken");
    }
    io.write_all(b"HTTP/1.1 200 Connection established\r\nVia: 1.1 squid\r\n\r\n")
        .await
        .expect("taken");
    let mut tcp = TcpStream::connect(hub).await.expect("it listens");
    drop(copy_bidirectional(&mut io, &mut tcp).await);
}

/// Says these bytes to whoever asks, and hangs up.
async fn saying(answer: &'static [u8]) -> SocketAddr {
    serve(move |mut tcp| async move {
        head_of(&mut tcp).await;
        tcp.write_all(answer).await.expect("taken");
    })
    .await
}

async fn refused_by(proxy: SocketAddr) -> ProxyError {
    let connector = through(&format!("http://ada:p%40ss@{proxy}"), &authority());
    match dials(&connector).await {
        Err(HubError::Proxy(error)) => {
            let said = error.to_string();
            assert!(said.contains(&proxy.to_string()) && !said.contains("p@ss"), "{said}");
            error
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_proxy_is_told_who_we_are_and_leads_to_the_hub() {
    let authority = authority();
    let hub = hub(&authority, certificate_for(HUB)).await;
    let proxy = serve(move |tcp| be_a_good_proxy(tcp, hub)).await;
    dials(&through(&format!("http://ada:p%40ss@{proxy}"), &authority)).await.expect("led there");
    let refused = dials(&through(&format!("http://{proxy}"), &authority)).await;
    assert!(
        matches!(refused, Err(HubError::Proxy(ProxyError::WantsCredentials { .. }))),
        "{refused:?}"
    );
    let refused = dials(&through(&format!("http://ada:wrong@{proxy}"), &authority)).await;
    assert!(
        matches!(refused, Err(HubError::Proxy(ProxyError::WrongCredentials { .. }))),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_proxy_may_be_spoken_to_inside_tls() {
    let authority = authority();
    let hub = hub(&authority, certificate_for(HUB)).await;
    let tls = server_config(&[b"http/1.1"], &authority, certificate_for("127.0.0.1"));
    let tls = TlsAcceptor::from(Arc::new(tls));
    let proxy = serve(move |tcp| {
        let tls = tls.clone();
        async move {
            let Ok(tls) = tls.accept(tcp).await else { return };
            be_a_good_proxy(tls, hub).await;
        }
    })
    .await;
    dials(&through(&format!("https://ada:p%40ss@{proxy}"), &authority)).await.expect("led there");
    let refused = dials(&through(&format!("https://ada:p%40ss@{proxy}"), &made::authority())).await;
    assert!(matches!(refused, Err(HubError::Proxy(ProxyError::Tls { .. }))), "{refused:?}");
}

#[tokio::test]
async fn hosts_that_need_no_proxy_are_dialled_directly() {
    let authority = authority();
    let hub = hub(&authority, certificate_for("localhost")).await;
    let connector = through("http://127.0.0.1:1", &authority);
    let address = format!("https://localhost:{}", hub.port());
    dial_hub(&address, &connector).await.expect("no proxy leads to loopback");
}

#[tokio::test]
async fn a_proxy_that_refuses_is_quoted() {
    let proxy = saying(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 3\r\n\r\nno!").await;
    let error = refused_by(proxy).await.to_string();
    assert!(error.contains("no way to hub.corp.invalid:443: 502 Bad Gateway"), "{error}");
    for who in [b"HTTP/1.1 407 Who?\r\n\r\n".as_slice(), b"HTTP/1.1 401 Who?\r\n\r\n"] {
        let error = refused_by(saying(who).await).await;
        assert!(matches!(error, ProxyError::WrongCredentials { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_proxy_that_hangs_is_not_waited_for() {
    let proxy = serve(|mut tcp| async move {
        head_of(&mut tcp).await;
        tokio::time::pause();
        tokio::time::advance(std::time::Duration::from_secs(BEYOND_PATIENCE_S)).await;
        tokio::time::resume();
        // Until it is let go.
        drop(tcp.read_u8().await);
    })
    .await;
    assert!(matches!(refused_by(proxy).await, ProxyError::Silent { .. }));
}

#[tokio::test]
async fn a_proxy_that_hangs_up_in_the_middle_is_told_from_a_refusal() {
    for half in [b"".as_slice(), b"HTTP/1.1 200 Connection establ"] {
        let proxy = saying(half).await;
        let error = refused_by(proxy).await;
        assert!(matches!(error, ProxyError::Cut { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn an_answer_without_end_is_not_listened_to() {
    let proxy = serve(|mut tcp| async move {
        head_of(&mut tcp).await;
        drop(tcp.write_all(b"HTTP/1.1 200 OK\r\n").await);
        while tcp.write_all(b"X-More: and more and more\r\n").await.is_ok() {}
    })
    .await;
    assert!(matches!(refused_by(proxy).await, ProxyError::Endless { .. }));
}

#[tokio::test]
async fn what_is_no_proxy_is_said_to_be_none() {
    for words in [b"SSH-2.0-OpenSSH_9.2\r\n".as_slice(), b"\x05\xff\r\n\r\n"] {
        let error = refused_by(saying(words).await).await;
        assert!(matches!(error, ProxyError::NotAProxy { .. }), "{error:?}");
    }
    let nobody = listener().await.local_addr().expect("bound");
    assert!(matches!(refused_by(nobody).await, ProxyError::Unreachable { .. }));
}

/// What microsocks does with `-u ada -P p@ss`.
async fn be_a_socks_proxy(mut tcp: TcpStream, hub: SocketAddr) {
    let mut greeting = [0; 2];
    tcp.read_exact(&mut greeting).await.expect("a greeting");
    let mut methods = vec![0; greeting[1].into()];
    tcp.read_exact(&mut methods).await.expect("methods");
    if !methods.contains(&2) {
        return tcp.write_all(&[5, 0xff]).await.expect("taken");
    }
    tcp.write_all(&[5, 2]).await.expect("taken");
    let mut said = [0; 10];
    tcp.read_exact(&mut said[..2]).await.expect("a user");
    let user = usize::from(said[1]);
    tcp.read_exact(&mut said[2..=2 + user]).await.expect("a user");
    let mut password = vec![0; said[2 + user].into()];
    tcp.read_exact(&mut password).await.expect("a password");
    let is_ada = &said[2..2 + user] == b"ada" && password == b"p@ss";
    tcp.write_all(&[1, u8::from(!is_ada)]).await.expect("taken");
    if !is_ada {
        return;
    }
    let mut wish = vec![0; 5 + HUB.len() + 2];
    tcp.read_exact(&mut wish).await.expect("a wish for a name");
    assert_eq!((wish[3], &wish[5..5 + HUB.len()]), (3, HUB.as_bytes()));
    tcp.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await.expect("taken");
    let mut target = TcpStream::connect(hub).await.expect("it listens");
    drop(copy_bidirectional(&mut tcp, &mut target).await);
}

#[tokio::test]
async fn a_socks_proxy_is_told_who_we_are_and_looks_the_name_up() {
    let authority = authority();
    let hub = hub(&authority, certificate_for(HUB)).await;
    let proxy = serve(move |tcp| be_a_socks_proxy(tcp, hub)).await;
    dials(&through(&format!("socks5h://ada:p%40ss@{proxy}"), &authority)).await.expect("led there");
    let refused = dials(&through(&format!("socks5h://{proxy}"), &authority)).await;
    assert!(
        matches!(refused, Err(HubError::Proxy(ProxyError::WantsCredentials { .. }))),
        "{refused:?}"
    );
    let refused = dials(&through(&format!("socks5h://ada:wrong@{proxy}"), &authority)).await;
    assert!(
        matches!(refused, Err(HubError::Proxy(ProxyError::WrongCredentials { .. }))),
        "{refused:?}"
    );
    let refused = dials(&through(&format!("socks5://ada:p%40ss@{proxy}"), &authority)).await;
    assert!(matches!(refused, Err(HubError::Proxy(ProxyError::UnknownName { .. }))), "{refused:?}");
}

#[tokio::test]
async fn a_socks_proxy_that_reaches_nobody_or_is_none_says_so() {
    let refusing = serve(|mut tcp| async move {
        tcp.read_exact(&mut [0; 3]).await.expect("a greeting");
        tcp.write_all(&[5, 0]).await.expect("taken");
        tcp.read_u8().await.expect("a wish");
        tcp.write_all(&[5, 4, 0, 1, 0, 0, 0, 0, 0, 0]).await.expect("taken");
        // What is unread when a connection is closed resets it, and the answer is lost.
        drop(tcp.read_to_end(&mut Vec::new()).await);
    })
    .await;
    let error =
        dials(&through(&format!("socks5h://{refusing}"), &authority())).await.expect_err("refused");
    assert!(error.to_string().contains("host unreachable"), "{error}");
    let web = serve(|mut tcp| async move {
        tcp.read_exact(&mut [0; 3]).await.expect("a greeting");
        tcp.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.expect("taken");
    })
    .await;
    let error = dials(&through(&format!("socks5h://{web}"), &authority())).await.expect_err("none");
    assert!(matches!(error, HubError::Proxy(ProxyError::NotAProxy { .. })), "{error:?}");
}
