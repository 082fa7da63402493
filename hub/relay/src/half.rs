//! One half of a carrier, whichever way it came: the relay's own port, or a WebSocket at the hub's address.

use std::io;

use bytes::{Bytes, BytesMut};
use fairlead_tunnel::{
    abortable::AbortSwitch,
    socket::abort_on_close,
    websocket::{WebReceiver, WebSender},
};
use fairlead_wire::preface::Answer;
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

/// As much is read from a socket at once, which is also what a message of a WebSocket may hold.
pub(crate) const BUFFER_BYTES: usize = fairlead_tunnel::websocket::MESSAGE_MAX_BYTES;

pub(crate) enum Half {
    Raw(TcpStream),
    Web(Box<WebHalf>),
}

/// Both directions of a WebSocket, and what makes its close an abort.
pub(crate) struct WebHalf {
    pub(crate) sender: WebSender,
    pub(crate) receiver: WebReceiver,
    pub(crate) abort: AbortSwitch,
}

impl Half {
    /// Tells the other end what became of its ticket.
    pub(crate) async fn answer(&mut self, answer: Answer) {
        let told = match self {
            Self::Raw(tcp) => tcp.write_all(&[answer.code()]).await,
            Self::Web(web) => web.sender.send(Bytes::copy_from_slice(&[answer.code()])).await,
        };
        if let Err(error) = told {
            tracing::debug!(%error, "A half of a carrier went before it was answered");
        }
    }

    /// Returns when a half that waits for the other has closed. It has nothing to say before it is answered: whatever
    /// comes instead of silence, it is no half of a carrier that waits.
    pub(crate) async fn hung_up(&mut self) {
        match self {
            Self::Raw(tcp) => drop(tcp.peek(&mut [0]).await),
            Self::Web(web) => drop(web.receiver.next().await),
        }
    }

    /// Makes the coming close an abort: what is on its way must not arrive any more.
    pub(crate) fn abort_on_close(&self) {
        match self {
            Self::Raw(tcp) => abort_on_close(tcp),
            Self::Web(web) => web.abort.turn(),
        }
    }

    /// Returns the two directions.
    pub(crate) fn parts(&mut self) -> (Source<'_>, Target<'_>) {
        match self {
            Self::Raw(tcp) => (Source::Raw(tcp), Target::Raw(tcp)),
            Self::Web(web) => (Source::Web(&mut web.receiver), Target::Web(&mut web.sender)),
        }
    }
}

/// Where bytes of a half come from.
pub(crate) enum Source<'h> {
    Raw(&'h TcpStream),
    Web(&'h mut WebReceiver),
}

impl Source<'_> {
    /// Returns what comes next, at most [`BUFFER_BYTES`]; `None` at the end. While nothing comes it holds no buffer.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Bytes>> {
        let tcp = match self {
            Self::Web(receiver) => return receiver.next().await,
            Self::Raw(tcp) => tcp,
        };
        loop {
            tcp.readable().await?;
            let mut buffer = BytesMut::with_capacity(BUFFER_BYTES);
            match tcp.try_read_buf(&mut buffer) {
                Ok(0) => return Ok(None),
                Ok(_) => return Ok(Some(buffer.freeze())),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Where bytes for a half go to.
pub(crate) enum Target<'h> {
    Raw(&'h TcpStream),
    Web(&'h mut WebSender),
}

impl Target<'_> {
    /// Returns when the network has taken them, so that whoever sends is slowed down by whoever reads.
    pub(crate) async fn send(&mut self, bytes: Bytes) -> io::Result<()> {
        match self {
            Self::Raw(tcp) => crate::splice::write_all(tcp, &bytes).await,
            Self::Web(sender) => sender.send(bytes).await,
        }
    }

    pub(crate) async fn end(&mut self) -> io::Result<()> {
        match self {
            Self::Raw(tcp) => crate::splice::shutdown(tcp),
            Self::Web(sender) => sender.end().await,
        }
    }
}
