//! A half of a carrier, or a link, inside a WebSocket, for networks through which only HTTPS gets: the same bytes as on a
//! connection of its own, in binary messages whose borders mean nothing.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes};
use fairlead_model::{host_and_port, timers::HANDSHAKE};
use futures_util::{
    Sink, SinkExt as _, Stream, StreamExt as _,
    stream::{SplitSink, SplitStream},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{
        Error, Message,
        handshake::server::create_response,
        protocol::{Role, WebSocketConfig},
    },
};

use crate::connection::Connection;

/// Where the hub takes in halves of carriers.
pub const CARRIER_PATH: &str = "/carrier/v1";
/// Where it takes in links.
pub const LINK_PATH: &str = "/link/v1";
/// No message is longer, in either direction. It is what a carrier writes at once, and what the relay reads at once.
pub const MESSAGE_MAX_BYTES: usize = 64 << 10;
/// Kept for as long as the WebSocket lives, so it bounds what an idle one costs. TLS hands over 16 KB at a time.
const READ_BUFFER_BYTES: usize = 16 << 10;
/// What the network has not taken yet; a longer queue is not begun.
const WRITE_BUFFER_MAX_BYTES: usize = 4 * MESSAGE_MAX_BYTES;

const HTTPS: u16 = 443;

#[derive(Debug, thiserror::Error)]
pub enum NoWebSocket {
    #[error("it did not open a WebSocket in time")]
    TimedOut,
    #[error(
        "it opens no WebSocket but answers with status {0}: whatever stands before the hub must let the upgrade pass"
    )]
    Refused(u16),
    #[error("it opens no WebSocket at this moment (status {0})")]
    NotNow(u16),
    #[error("the connection broke before the WebSocket was open")]
    Broken(#[source] io::Error),
}

impl NoWebSocket {
    /// Who is overwhelmed, or has nobody behind it, may answer otherwise in a moment.
    fn of(status: http::StatusCode) -> Self {
        let status_number = status.as_u16();
        if status.is_server_error() || status == http::StatusCode::TOO_MANY_REQUESTS {
            Self::NotNow(status_number)
        } else {
            Self::Refused(status_number)
        }
    }
}

/// A WebSocket as a connection.
#[derive(Debug)]
pub struct WebSocket {
    messages: WebSocketStream<Connection>,
    /// Of the last message, what nobody has read yet.
    unread: Bytes,
    /// The other end has said that nothing more comes.
    has_ended: bool,
}

impl WebSocket {
    /// Asks the hub at the other end of `io` for a WebSocket at this path.
    pub async fn dial(
        io: Connection,
        host: &str,
        port: u16,
        path: &str,
    ) -> Result<Self, NoWebSocket> {
        let place = host_and_port(host, port);
        // As browsers say it: what stands before the hub may go by the name alone.
        let authority = if port == HTTPS { place.trim_end_matches(":443") } else { &place };
        let uri: http::Uri = format!("wss://{authority}{path}")
            .parse()
            .map_err(|error| NoWebSocket::Broken(io::Error::other(error)))?;
        let opened = timeout(HANDSHAKE, client_async_with_config(uri, io, Some(config()))).await;
        match opened.map_err(|_| NoWebSocket::TimedOut)? {
            Ok((messages, _)) => Ok(Self::of(messages)),
            Err(Error::Http(answer)) => Err(NoWebSocket::of(answer.status())),
            Err(error) => Err(NoWebSocket::Broken(as_io(error))),
        }
    }

    /// Takes over a connection that was upgraded to a WebSocket at the hub's end.
    pub async fn served(io: Connection) -> Self {
        let messages = WebSocketStream::from_raw_socket(io, Role::Server, Some(config())).await;
        Self::of(messages)
    }

    const fn of(messages: WebSocketStream<Connection>) -> Self {
        Self { messages, unread: Bytes::new(), has_ended: false }
    }

    /// Parts it, for whoever carries both directions by themselves.
    #[must_use]
    pub fn split(self) -> (WebSender, WebReceiver) {
        let (sink, stream) = self.messages.split();
        (WebSender(sink), WebReceiver { messages: stream, unread: self.unread })
    }
}

/// Answers a request for a WebSocket as the standard says; `None` when it is none.
#[must_use]
pub fn agree<B>(request: &http::Request<B>) -> Option<http::Response<()>> {
    let mut asked = http::Request::new(());
    request.method().clone_into(asked.method_mut());
    *asked.version_mut() = request.version();
    request.headers().clone_into(asked.headers_mut());
    create_response(&asked).ok()
}

fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        // Nobody is sure to flush what has been written.
        .write_buffer_size(0)
        .max_write_buffer_size(WRITE_BUFFER_MAX_BYTES)
        .max_message_size(Some(MESSAGE_MAX_BYTES))
        .max_frame_size(Some(MESSAGE_MAX_BYTES))
}

/// Says things over a WebSocket.
#[derive(Debug)]
pub struct WebSender(SplitSink<WebSocketStream<Connection>, Message>);

impl WebSender {
    /// Says these bytes, at most [`MESSAGE_MAX_BYTES`], and returns when the network has taken them.
    pub async fn send(&mut self, bytes: Bytes) -> io::Result<()> {
        self.0.send(Message::Binary(bytes)).await.map_err(as_io)
    }

    /// Says that nothing more comes.
    pub async fn end(&mut self) -> io::Result<()> {
        match self.0.close().await {
            Ok(()) | Err(Error::AlreadyClosed | Error::ConnectionClosed) => Ok(()),
            Err(error) => Err(as_io(error)),
        }
    }
}

/// Hears what is said over a WebSocket.
#[derive(Debug)]
pub struct WebReceiver {
    messages: SplitStream<WebSocketStream<Connection>>,
    unread: Bytes,
}

impl WebReceiver {
    /// Returns what is heard next; `None` when the other end has said that nothing more comes.
    pub async fn next(&mut self) -> io::Result<Option<Bytes>> {
        if !self.unread.is_empty() {
            return Ok(Some(std::mem::take(&mut self.unread)));
        }
        std::future::poll_fn(|cx| poll_bytes(&mut self.messages, cx)).await
    }
}

/// Waits for bytes; whatever else is said is not for us.
fn poll_bytes<S>(messages: &mut S, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>>
where
    S: Stream<Item = Result<Message, Error>> + Unpin,
{
    loop {
        match ready!(messages.poll_next_unpin(cx)) {
            None => return Poll::Ready(Ok(None)),
            Some(Err(error)) => return Poll::Ready(Err(as_io(error))),
            Some(Ok(Message::Binary(bytes))) if !bytes.is_empty() => {
                return Poll::Ready(Ok(Some(bytes)));
            }
            Some(Ok(Message::Text(_) | Message::Frame(_))) => {
                let error = io::Error::new(io::ErrorKind::InvalidData, "nobody says text here");
                return Poll::Ready(Err(error));
            }
            // The other end may keep the connection for a while.
            Some(Ok(Message::Close(_))) => return Poll::Ready(Ok(None)),
            Some(Ok(Message::Binary(_) | Message::Ping(_) | Message::Pong(_))) => {}
        }
    }
}

impl AsyncRead for WebSocket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.has_ended {
            return Poll::Ready(Ok(()));
        }
        if this.unread.is_empty() {
            let Some(bytes) = ready!(poll_bytes(&mut this.messages, cx))? else {
                this.has_ended = true;
                return Poll::Ready(Ok(()));
            };
            this.unread = bytes;
        }
        let fits = this.unread.len().min(buffer.remaining());
        buffer.put_slice(&this.unread[..fits]);
        this.unread.advance(fits);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for WebSocket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let messages = &mut self.get_mut().messages;
        ready!(Pin::new(&mut *messages).poll_ready(cx)).map_err(as_io)?;
        let fits = bytes.len().min(MESSAGE_MAX_BYTES);
        let message = Message::Binary(Bytes::copy_from_slice(&bytes[..fits]));
        Pin::new(messages).start_send(message).map_err(as_io)?;
        Poll::Ready(Ok(fits))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().messages).poll_flush(cx).map_err(as_io)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().messages).poll_close(cx).map_err(as_io)
    }
}

fn as_io(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        Error::ConnectionClosed | Error::AlreadyClosed => io::ErrorKind::BrokenPipe.into(),
        other => io::Error::other(other),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
    use tokio_tungstenite::accept_async;

    use super::*;

    /// Two ends of a WebSocket: as a connection, and as whoever speaks WebSocket.
    async fn pair() -> (WebSocket, WebSocketStream<tokio::io::DuplexStream>) {
        let (near, far) = duplex(MESSAGE_MAX_BYTES);
        let (near, far) = tokio::join!(
            WebSocket::dial(Box::new(near), "hub.example.com", 443, CARRIER_PATH),
            accept_async(far)
        );
        (near.expect("open"), far.expect("open"))
    }

    #[tokio::test]
    async fn the_borders_of_messages_mean_nothing() {
        let (mut near, mut far) = pair().await;
        for part in [b"ab".as_slice(), b"", b"cdef"] {
            far.send(Message::Binary(Bytes::copy_from_slice(part))).await.expect("taken");
        }
        far.send(Message::Ping(Bytes::new())).await.expect("taken");
        far.close(None).await.expect("taken");
        let mut head = [0; 3];
        near.read_exact(&mut head).await.expect("three bytes");
        let mut rest = String::new();
        near.read_to_string(&mut rest).await.expect("an end");
        assert_eq!((&head, rest.as_str()), (b"abc", "def"));
    }

    #[tokio::test]
    async fn much_is_said_in_many_messages_that_are_bounded() {
        let (mut near, mut far) = pair().await;
        let said: Vec<u8> = (0..300_000_u32).map(|n| n as u8).collect();
        let saying = said.clone();
        tokio::spawn(async move {
            near.write_all(&saying).await.expect("taken");
            near.shutdown().await.expect("ended");
        });
        let mut heard = Vec::new();
        while let Some(Ok(message)) = far.next().await {
            assert!(message.len() <= MESSAGE_MAX_BYTES);
            if let Message::Binary(bytes) = message {
                heard.extend_from_slice(&bytes);
            }
        }
        assert!(heard == said);
    }

    #[tokio::test]
    async fn a_message_without_end_and_text_are_no_carrier() {
        let (mut near, mut far) = pair().await;
        tokio::spawn(async move {
            let long = Bytes::from(vec![0; MESSAGE_MAX_BYTES + 1]);
            drop(far.send(Message::Binary(long)).await);
            far
        });
        near.read_u8().await.expect_err("too long");
        let (mut near, mut far) = pair().await;
        far.send(Message::text("hello")).await.expect("taken");
        let error = near.read_u8().await.expect_err("no carrier");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    #[tokio::test]
    async fn an_end_without_a_word_is_a_failure() {
        let (mut near, far) = pair().await;
        drop(far);
        near.read_u8().await.expect_err("cut off");
        let (mut near, mut far) = pair().await;
        far.close(None).await.expect("taken");
        assert_eq!(near.read(&mut [0]).await.expect("an end"), 0);
    }

    #[tokio::test]
    async fn whoever_opens_no_websocket_is_quoted() {
        let (near, mut far) = duplex(4096);
        tokio::spawn(async move {
            let mut head = [0; 1024];
            let read = far.read(&mut head).await.expect("a question");
            let asked = String::from_utf8_lossy(&head[..read]).into_owned();
            assert!(asked.contains("Host: hub.example.com\r\n"), "{asked}");
            far.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
                .await
                .expect("taken");
        });
        let refused = WebSocket::dial(Box::new(near), "hub.example.com", 443, CARRIER_PATH).await;
        assert!(matches!(refused, Err(NoWebSocket::Refused(403))), "{refused:?}");
        let of = |status: u16| NoWebSocket::of(status.try_into().expect("a status"));
        assert!(matches!(of(502), NoWebSocket::NotNow(502)));
        assert!(matches!(of(429), NoWebSocket::NotNow(429)));
    }
}
