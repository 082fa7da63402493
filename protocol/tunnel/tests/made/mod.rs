//! Authorities, certificates and hubs, made for a test.

use std::{io, io::Write, net::SocketAddr, sync::Arc};

use fairlead_tunnel::{
    connect::HubTrust,
    connection::Connection,
    websocket::{WebSocket, agree},
};
use rcgen::{CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{ServerConfig, crypto::aws_lc_rs};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

pub(crate) type Authority = CertifiedIssuer<'static, KeyPair>;

pub(crate) fn authority() -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    // OpenSSL takes a certificate for self-signed whose issuer is called as it is itself.
    params.distinguished_name.push(rcgen::DnType::CommonName, "an authority");
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("made")).expect("signed")
}

pub(crate) fn certificate_for(name: &str) -> CertificateParams {
    CertificateParams::new(vec![name.to_owned()]).expect("a name")
}

pub(crate) fn server_config(
    protocols: &[&[u8]],
    authority: &Authority,
    params: CertificateParams,
) -> ServerConfig {
    let key = KeyPair::generate().expect("made");
    let certificate = params.signed_by(&key, authority).expect("signed");
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("supported")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .expect("fits");
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    config
}

/// Answers TLS and HTTP/2 on loopback with a certificate of these contents.
pub(crate) async fn hub(authority: &Authority, params: CertificateParams) -> SocketAddr {
    speaking(&[b"h2"], authority, params).await
}

pub(crate) async fn speaking(
    protocols: &[&[u8]],
    authority: &Authority,
    params: CertificateParams,
) -> SocketAddr {
    let config = server_config(protocols, authority, params);
    let (listener, acceptor) = (listener().await, TlsAcceptor::from(Arc::new(config)));
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(tls) = acceptor.accept(tcp).await else { return };
                let Ok(mut http) = h2::server::handshake(tls).await else { return };
                while http.accept().await.is_some() {}
            });
        }
    });
    address
}

pub(crate) async fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.expect("a free port")
}

pub(crate) fn trust_in(authority: &Authority) -> HubTrust {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(authority.pem().as_bytes()).expect("written");
    HubTrust::new(Some(file.path())).expect("read")
}

/// Agrees on a WebSocket as an HTTP server does.
pub(crate) async fn websocket_on(mut io: Connection) -> io::Result<WebSocket> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(io.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
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
    io.flush().await?;
    Ok(WebSocket::served(io).await)
}
