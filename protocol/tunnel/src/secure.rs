//! The connection under a carrier's HTTP/2: TLS 1.3 over whatever was dialled.

use std::{
    io,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};

use fairlead_model::timers::HANDSHAKE;
use tokio::{
    io::{AsyncRead, AsyncWrite, BufReader, ReadBuf},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::{
    carrier::{HandshakeError, Io, READ_BUFFER_BYTES},
    tls::{ALPN, PeerExpectation, TlsIdentity, acceptor_config, opener_config},
};

pub(crate) type Secured = Box<dyn Io>;

/// Why TLS failed after its handshake, as when the far end refuses this one: HTTP/2 keeps only the words of an error.
#[derive(Clone, Debug, Default)]
pub(crate) struct Verdict(Arc<OnceLock<rustls::Error>>);

impl Verdict {
    /// Returns the far end's refusal, if that is how the connection ended.
    pub(crate) fn refusal(&self) -> Option<rustls::Error> {
        self.0.get().filter(|e| matches!(e, rustls::Error::AlertReceived(_))).cloned()
    }

    fn hear(&self, read: &Poll<io::Result<()>>) {
        if let Poll::Ready(Err(error)) = read
            && let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref())
        {
            self.0.get_or_init(|| rustls::Error::clone(tls));
        }
    }
}

/// A connection whose errors of TLS are remembered.
struct Heard<T> {
    io: T,
    verdict: Verdict,
}

impl<T: Io> AsyncRead for Heard<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        self.verdict.hear(&read);
        read
    }
}

impl<T: Io> AsyncWrite for Heard<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// Begins TLS as the end that opens streams.
pub(crate) async fn secure_opener(
    io: impl Io,
    identity: &TlsIdentity,
    expected: &PeerExpectation,
) -> Result<(Secured, Verdict), HandshakeError> {
    let verdict = Verdict::default();
    if cfg!(feature = "plain-for-tests") {
        return Ok((Box::new(io), verdict));
    }
    let config = Arc::new(opener_config(identity, expected)?);
    let handshake =
        TlsConnector::from(config).connect_with(expected.server_name(), buffered(io), |tls| {
            tls.set_buffer_limit(Some(READ_BUFFER_BYTES));
        });
    let tls = in_time(handshake).await?;
    spoke(tls.get_ref().1.alpn_protocol())?;
    Ok((Box::new(Heard { io: tls, verdict: verdict.clone() }), verdict))
}

/// Begins TLS as the end that takes streams.
pub(crate) async fn secure_acceptor(
    io: impl Io,
    identity: &TlsIdentity,
    expected: &PeerExpectation,
) -> Result<Secured, HandshakeError> {
    if cfg!(feature = "plain-for-tests") {
        return Ok(Box::new(io));
    }
    let config = Arc::new(acceptor_config(identity, expected)?);
    let handshake = TlsAcceptor::from(config)
        .accept_with(buffered(io), |tls| tls.set_buffer_limit(Some(READ_BUFFER_BYTES)));
    let tls = in_time(handshake).await?;
    spoke(tls.get_ref().1.alpn_protocol())?;
    Ok(Box::new(tls))
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
