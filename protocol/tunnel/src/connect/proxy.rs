//! Through a proxy: to it, and by its word to somebody else. What goes wrong names the proxy, never its password.

use std::{io, sync::Arc, time::Duration};

use fairlead_model::{ProxyKind, ProxyUrl, timers::HANDSHAKE};
use rustls_pki_types::ServerName;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

use super::{HubTrust, TrustError, dial_tcp, http_proxy, socks};
use crate::connection::Connection;

/// A proxy opens the way within this time, or is not waited for: by itself it may wait for a host that never answers.
const PROXY_ANSWER: Duration = HANDSHAKE;

#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    #[error(
        "the proxy {proxy} cannot be reached; is its address right, and may this machine connect to it?"
    )]
    Unreachable { proxy: String, source: io::Error },
    #[error("the proxy {proxy} has not answered within {} s", PROXY_ANSWER.as_secs())]
    Silent { proxy: String },
    #[error("the proxy {proxy} ended the connection before it had answered")]
    Cut { proxy: String, source: io::Error },
    #[error("the proxy {proxy} answers without end: it is not listened to for longer")]
    Endless { proxy: String },
    #[error("what answers at {proxy} is no proxy of the kind that its address says")]
    NotAProxy { proxy: String },
    #[error(
        "the proxy {proxy} asks who you are: write user and password into its address, http://USER:PASSWORD@HOST:PORT"
    )]
    WantsCredentials { proxy: String },
    #[error("the proxy {proxy} does not accept the user and the password in its address")]
    WrongCredentials { proxy: String },
    #[error("the proxy {proxy} opens no way to {target}: {answer}")]
    Refused { proxy: String, target: String, answer: String },
    #[error(
        "TLS with the proxy {proxy} failed; is its authority trusted, and is it really an https:// proxy?"
    )]
    Tls { proxy: String, source: io::Error },
    #[error("the name {host} has no address here; with socks5h:// the proxy looks names up")]
    UnknownName { host: String, source: io::Error },
    #[error(transparent)]
    Trust(#[from] TrustError),
}

impl ProxyError {
    pub(super) fn cut(proxy: &ProxyUrl, source: io::Error) -> Self {
        Self::Cut { proxy: proxy.place(), source }
    }

    pub(super) fn not_a_proxy(proxy: &ProxyUrl) -> Self {
        Self::NotAProxy { proxy: proxy.place() }
    }

    /// The proxy wants to know who we are, or does not believe what we said.
    pub(super) fn credentials(proxy: &ProxyUrl) -> Self {
        let place = proxy.place();
        match proxy.credentials() {
            None => Self::WantsCredentials { proxy: place },
            Some(_) => Self::WrongCredentials { proxy: place },
        }
    }
}

/// Connects to `host:port` through the proxy.
pub(super) async fn dial_through(
    proxy: &ProxyUrl,
    trust: &HubTrust,
    host: &str,
    port: u16,
) -> Result<Connection, ProxyError> {
    let unreachable = |source| ProxyError::Unreachable { proxy: proxy.place(), source };
    let tcp = dial_tcp(&proxy.place()).await.map_err(unreachable)?;
    let opened = async {
        match proxy.kind() {
            ProxyKind::Http => http_proxy::connect(proxy, Box::new(tcp), host, port).await,
            ProxyKind::Https => {
                let tls = secure(proxy, trust, tcp).await?;
                http_proxy::connect(proxy, tls, host, port).await
            }
            ProxyKind::Socks5 | ProxyKind::Socks5h => socks::connect(proxy, tcp, host, port).await,
        }
    };
    timeout(PROXY_ANSWER, opened).await.map_err(|_| ProxyError::Silent { proxy: proxy.place() })?
}

async fn secure(
    proxy: &ProxyUrl,
    trust: &HubTrust,
    tcp: TcpStream,
) -> Result<Connection, ProxyError> {
    let config = Arc::new(trust.tls_config(&[b"http/1.1"])?);
    let name = ServerName::try_from(proxy.host().to_owned())
        .map_err(|_| ProxyError::not_a_proxy(proxy))?;
    let failed = |source| ProxyError::Tls { proxy: proxy.place(), source };
    Ok(Box::new(TlsConnector::from(config).connect(name, tcp).await.map_err(failed)?))
}
