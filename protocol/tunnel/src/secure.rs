//! The connection under a carrier's HTTP/2: TLS 1.3 over whatever was dialled.

use std::{io, sync::Arc};

use fairlead_model::timers::HANDSHAKE;
use tokio::{io::BufReader, time::timeout};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::{
    carrier::{HandshakeError, Io, READ_BUFFER_BYTES},
    heard::Secured,
    tls::{ALPN, PeerExpectation, TlsIdentity, acceptor_config, opener_config},
};

/// Begins TLS as the end that opens streams.
pub(crate) async fn secure_opener(
    io: impl Io,
    identity: &TlsIdentity,
    expected: &PeerExpectation,
) -> Result<Secured, HandshakeError> {
    if cfg!(feature = "plain-for-tests") {
        return Ok(Secured::new(io));
    }
    let config = Arc::new(opener_config(identity, expected)?);
    let handshake =
        TlsConnector::from(config).connect_with(expected.server_name(), buffered(io), |tls| {
            tls.set_buffer_limit(Some(READ_BUFFER_BYTES));
        });
    let tls = in_time(handshake).await?;
    spoke(tls.get_ref().1.alpn_protocol())?;
    Ok(Secured::new(tls))
}

/// Begins TLS as the end that takes streams.
pub(crate) async fn secure_acceptor(
    io: impl Io,
    identity: &TlsIdentity,
    expected: &PeerExpectation,
) -> Result<Secured, HandshakeError> {
    if cfg!(feature = "plain-for-tests") {
        return Ok(Secured::new(io));
    }
    let config = Arc::new(acceptor_config(identity, expected)?);
    let handshake = TlsAcceptor::from(config)
        .accept_with(buffered(io), |tls| tls.set_buffer_limit(Some(READ_BUFFER_BYTES)));
    let tls = in_time(handshake).await?;
    spoke(tls.get_ref().1.alpn_protocol())?;
    Ok(Secured::new(tls))
}

fn buffered(io: impl Io) -> BufReader<impl Io> {
    BufReader::with_capacity(READ_BUFFER_BYTES, io)
}

async fn in_time<T>(handshake: impl Future<Output = io::Result<T>>) -> Result<T, HandshakeError> {
    timeout(HANDSHAKE, handshake)
        .await
        .map_err(|_| HandshakeError::TimedOut)?
        .map_err(HandshakeError::of)
}

fn spoke(protocol: Option<&[u8]>) -> Result<(), HandshakeError> {
    if protocol == Some(ALPN) { Ok(()) } else { Err(HandshakeError::OtherProtocol) }
}
