//! The connection under a link.

use std::{io, sync::Arc};

use fairlead_model::{
    host_and_port,
    timers::{HANDSHAKE, LINK_DEAD, LINK_HEARTBEAT},
};
use hyper_util::rt::TokioIo;
use rustls::CertificateError;
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::Mutex,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::{Channel, Endpoint};
use url::Url;

use super::{Connector, DialError, LinkWay, ProxyError, TrustError, timed_out, why_not_trusted};
use crate::{
    connection::Connection,
    websocket::{LINK_PATH, NoWebSocket, WebSocket},
};

const ALPN: &[u8] = b"h2";

#[derive(Debug, thiserror::Error)]
pub enum HubError {
    #[error("`{0}` is not the address of a hub: write `https://host` or `https://host:port`")]
    BadAddress(String),
    #[error("the hub at {host} cannot be reached")]
    Unreachable { host: String, source: io::Error },
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    #[error(
        "the certificate of {host} is signed by an authority that this machine does not trust: the hub's own, or that \
         of a proxy which opens TLS on the way"
    )]
    NotTrusted { host: String },
    #[error("the certificate at {host} is made out to another name{}", listed(names))]
    OtherName { host: String, names: Vec<String> },
    #[error(
        "the certificate of {host} is not valid at this time: it has expired, or a clock is wrong"
    )]
    NotAtThisTime { host: String },
    #[error("the certificate of {host} is not valid")]
    BadCertificate { host: String, source: io::Error },
    #[error("what answers at {host} does not speak TLS as a hub does")]
    NotAHub { host: String, source: io::Error },
    #[error(
        "{host} speaks neither HTTP/2 nor WebSockets with this machine: whatever opens TLS on the way must let one of them \
         pass, or leave {host} alone"
    )]
    NoHttp2 { host: String },
    #[error("{host} cannot be reached inside a WebSocket")]
    NoWebSocket { host: String, source: NoWebSocket },
    #[error(transparent)]
    Trust(#[from] TrustError),
}

impl HubError {
    /// Says whether nobody was there to answer, as while a hub restarts. A refusal is an answer.
    #[must_use]
    pub const fn is_absence(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Proxy(_) | Self::NotAHub { .. } => true,
            Self::NoWebSocket { source, .. } => !matches!(source, NoWebSocket::Refused(_)),
            _ => false,
        }
    }
}

/// Says whether a link was ended by a decision, which would be the same again in a moment; anything else may be a hub that
/// restarts. A hub that speaks another version of the link does not know what it is asked for.
#[must_use]
pub fn is_decision(code: tonic::Code) -> bool {
    use tonic::Code as C;
    matches!(
        code,
        C::NotFound
            | C::Unauthenticated
            | C::PermissionDenied
            | C::FailedPrecondition
            | C::InvalidArgument
            | C::Unimplemented
            | C::ResourceExhausted
    )
}

/// Says whether a hub ended a link because it does not know who we are: then nothing of ours lives there.
#[must_use]
pub fn is_unknown(code: tonic::Code) -> bool {
    code == tonic::Code::NotFound
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { String::new() } else { format!(": {}", names.join(", ")) }
}

/// A connection to a hub that carries gRPC. It never dials again by itself: a link that is lost begins anew, with a new
/// challenge.
#[derive(Clone, Debug)]
pub struct HubChannel {
    channel: Channel,
    host: String,
}

impl HubChannel {
    /// Returns what generated gRPC code takes.
    #[must_use]
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Returns the host name by which the hub was dialled, as the link's challenge is signed with it.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }
}

/// Connects to the hub at `https://host[:port]`, by whichever way is spoken; for whoever has one thing to say.
pub async fn dial_hub(address: &str, connector: &Connector) -> Result<HubChannel, HubError> {
    LinkWay::default().dial(address, connector).await
}

/// Connects to the hub at `https://host[:port]` by HTTP/2.
pub(super) async fn over_http2(
    address: &str,
    connector: &Connector,
) -> Result<HubChannel, HubError> {
    let (host, port) = hub_at(address)?;
    let (tls, _) = secure(&host, port, ALPN, connector).await?;
    if tls.get_ref().1.alpn_protocol() != Some(ALPN) {
        return Err(HubError::NoHttp2 { host });
    }
    let channel = speak_grpc(&host, port, tls)
        .await
        .map_err(|source| HubError::NotAHub { host: host.clone(), source })?;
    Ok(HubChannel { channel, host })
}

/// Connects to the hub at `https://host[:port]` by a WebSocket, and speaks HTTP/2 inside.
pub(super) async fn in_websocket(
    address: &str,
    connector: &Connector,
) -> Result<HubChannel, HubError> {
    let (host, port) = hub_at(address)?;
    let (tls, _) = secure(&host, port, b"http/1.1", connector).await?;
    let socket = WebSocket::dial(Box::new(tls), &host, port, LINK_PATH).await;
    let socket = socket.map_err(|source| HubError::NoWebSocket { host: host.clone(), source })?;
    let channel = speak_grpc(&host, port, socket)
        .await
        .map_err(|source| HubError::NotAHub { host: host.clone(), source })?;
    Ok(HubChannel { channel, host })
}

/// Reads the address of a hub: host, without brackets, and port.
pub(super) fn hub_at(address: &str) -> Result<(String, u16), HubError> {
    let bad = || HubError::BadAddress(address.to_owned());
    let url = Url::parse(address).map_err(|_| bad())?;
    if url.scheme() != "https" {
        return Err(bad());
    }
    let host = url.host_str().ok_or_else(bad)?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    Ok((host, url.port_or_known_default().ok_or_else(bad)?))
}

/// Connects to the hub and agrees on TLS with it, offering one protocol; says through which proxy.
pub(super) async fn secure(
    host: &str,
    port: u16,
    protocol: &[u8],
    connector: &Connector,
) -> Result<(TlsStream<Connection>, Option<String>), HubError> {
    let unreachable = |source| HubError::Unreachable { host: host.to_owned(), source };
    let config = Arc::new(connector.trust().tls_config(&[protocol])?);
    let name =
        ServerName::try_from(host.to_owned()).map_err(|_| HubError::BadAddress(host.to_owned()))?;
    let dialled = connector.dial(host, port).await.map_err(|error| match error {
        DialError::Network(source) => unreachable(source),
        DialError::Proxy(error) => error.into(),
    })?;
    let tls = timeout(HANDSHAKE, TlsConnector::from(config).connect(name, dialled.io))
        .await
        .map_err(|_| unreachable(timed_out(HANDSHAKE)))?
        .map_err(|error| tls_error(host, error))?;
    Ok((tls, dialled.proxy))
}

fn tls_error(host: &str, error: io::Error) -> HubError {
    let host = host.to_owned();
    match why_not_trusted(&error) {
        // A bad signature is what an authority looks like that has the name of a trusted one and another key, as when a
        // hub was set up anew.
        Some(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            HubError::NotTrusted { host }
        }
        Some(CertificateError::NotValidForName) => HubError::OtherName { host, names: Vec::new() },
        Some(CertificateError::NotValidForNameContext { presented, .. }) => {
            HubError::OtherName { host, names: presented.clone() }
        }
        Some(
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. },
        ) => HubError::NotAtThisTime { host },
        Some(_) => HubError::BadCertificate { host, source: error },
        None if speaks_another_protocol(&error) => HubError::NoHttp2 { host },
        None => HubError::NotAHub { host, source: error },
    }
}

fn speaks_another_protocol(error: &io::Error) -> bool {
    use rustls::{AlertDescription::NoApplicationProtocol, Error};
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    matches!(tls, Some(Error::AlertReceived(NoApplicationProtocol)))
}

async fn speak_grpc<C>(host: &str, port: u16, connection: C) -> io::Result<Channel>
where
    C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let endpoint = Endpoint::from_shared(format!("https://{}", host_and_port(host, port)))
        .map_err(io::Error::other)?
        .http2_keep_alive_interval(LINK_HEARTBEAT)
        .keep_alive_timeout(LINK_DEAD.saturating_sub(LINK_HEARTBEAT))
        .keep_alive_while_idle(true);
    let only_one = Arc::new(Mutex::new(Some(TokioIo::new(connection))));
    let connector = tower::service_fn(move |_| {
        let only_one = Arc::clone(&only_one);
        async move {
            let gone = || io::Error::new(io::ErrorKind::NotConnected, "the link is lost");
            only_one.lock().await.take().ok_or_else(gone)
        }
    });
    endpoint.connect_with_connector(connector).await.map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_https_with_a_host() {
        let read = |address| hub_at(address).ok();
        assert_eq!(read("https://hub.example.com"), Some(("hub.example.com".into(), 443)));
        assert_eq!(read("https://hub.example.com:8443/"), Some(("hub.example.com".into(), 8443)));
        assert_eq!(read("https://[::1]:8443"), Some(("::1".into(), 8443)));
        for bad in ["http://hub.example.com", "hub.example.com", "https://", ""] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
