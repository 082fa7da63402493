//! One conversation inside a carrier, read and written like a socket.
//!
//! End of stream is end of stream, in each direction by itself. An abort of the other end is a
//! [`io::ErrorKind::ConnectionReset`]; a stream that is dropped before both directions have ended is aborted.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{
    half::{Receiver, Sender},
    load::StreamCount,
};

#[derive(Debug)]
pub struct Stream {
    pub(crate) receiver: Receiver,
    pub(crate) sender: Sender,
    /// Received, not yet read.
    unread: Bytes,
    /// Read by the last call, not yet given back as window: whoever reads again is done with it.
    unreleased: usize,
    pub(crate) count: StreamCount,
}

impl Stream {
    pub(crate) const fn new(receiver: Receiver, sender: Sender, count: StreamCount) -> Self {
        Self { receiver, sender, unread: Bytes::new(), unreleased: 0, count }
    }

    /// Waits for the other end's answer to an early open. Reading waits for it by itself.
    pub async fn answered(&mut self) -> io::Result<()> {
        self.receiver.opened().await
    }

    /// Says whether the other end has let it be known that it never saw the wish for this stream.
    pub(crate) fn was_never_seen(&mut self) -> bool {
        self.receiver.was_never_seen()
    }

    /// Returns how long the other end's own connection took, once it has agreed and where it says so: of a probe.
    #[must_use]
    pub const fn connected_in(&self) -> Option<Duration> {
        self.receiver.said().connected_in
    }

    /// Ends the stream at once, in both directions, with an error at the other end.
    pub fn abort(mut self) {
        self.sender.abort();
    }

    /// Takes what was received and not read; whoever takes it releases it.
    pub(crate) fn take_unread(&mut self) -> Bytes {
        self.receiver.release(std::mem::take(&mut self.unreleased));
        std::mem::take(&mut self.unread)
    }

    fn is_over(&self) -> bool {
        self.sender.has_ended() && self.receiver.has_ended() && self.unread.is_empty()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.receiver.release(self.unreleased + self.unread.len());
        if !self.is_over() {
            self.sender.abort();
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.receiver.release(std::mem::take(&mut this.unreleased));
        if this.unread.is_empty() {
            match ready!(this.receiver.poll_chunk(cx)) {
                Some(bytes) => {
                    this.unread = bytes?;
                    this.count.received(this.unread.len());
                }
                None => return Poll::Ready(Ok(())),
            }
        }
        let bytes = this.unread.len().min(buf.remaining());
        buf.put_slice(&this.unread[..bytes]);
        this.unread.advance(bytes);
        this.unreleased = bytes;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let room = ready!(self.sender.poll_room(cx, bytes.len()))?;
        self.sender.send_now(Bytes::copy_from_slice(&bytes[..room]))?;
        self.count.sent(room);
        Poll::Ready(Ok(room))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.sender.end())
    }
}
