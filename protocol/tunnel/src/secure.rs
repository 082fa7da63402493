//! The connection under a carrier's HTTP/2: TLS 1.3 over whatever was dialled.

use std::{io, sync::Arc, time::Duration};

use fairlead_model::timers::HANDSHAKE;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader, copy, sink},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::{
    carrier::{HandshakeError, Io, READ_BUFFER_BYTES},
    heard::Secured,
    tls::{ALPN, PeerExpectation, TlsIdentity, acceptor_config, opener_config},
};

/// After a refusal the connection is closed within this time, or when so much more has come.
const FAREWELL: Duration = Duration::from_secs(1);
const FAREWELL_MAX_BYTES: u64 = 64 * 1024;

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
        .accept_with(buffered(io), |tls| tls.set_buffer_limit(Some(READ_BUFFER_BYTES)))
        .into_fallible();
    let tls = in_time(async {
        match handshake.await {
            Ok(tls) => Ok(tls),
            Err((error, io)) => {
                let_go(io).await;
                Err(error)
            }
        }
    })
    .await?;
    spoke(tls.get_ref().1.alpn_protocol())?;
    Ok(Secured::new(tls))
}

/// Gives whoever was refused the time to read why: closed with bytes unread, a connection is reset, and the alert that
/// says it is lost on the way.
async fn let_go(mut io: impl Io) {
    let farewell = async {
        io.shutdown().await?;
        copy(&mut io.take(FAREWELL_MAX_BYTES), &mut sink()).await
    };
    // They may be gone, or never go; both are their affair.
    drop(timeout(FAREWELL, farewell).await);
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
