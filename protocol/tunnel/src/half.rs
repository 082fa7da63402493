//! The two halves of a stream as `h2` has them, with its flow-control rules kept in one place.
//!
//! A receiver gives window back only for what its reader is done with, so that bytes nobody reads stay at the sender. A
//! sender looks at the capacity it has before it waits for more, because `h2` reports increases only.

use std::{
    future::{Future as _, poll_fn},
    io,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use fairlead_wire::open::{Opened, Refused};
use h2::{Reason, RecvStream, SendStream, client::ResponseFuture, server::SendResponse};
use http::StatusCode;

/// Never ask for more than this at once: capacity that is reserved and not used is missing to other streams.
const RESERVE_MAX_BYTES: usize = crate::carrier::SEND_BUFFER_BYTES;

/// Bytes that come from the other end.
#[derive(Debug)]
pub(crate) struct Receiver {
    state: Receiving,
    ended: bool,
    opened: Opened,
}

#[derive(Debug)]
enum Receiving {
    /// Asked for, not yet answered.
    Asked(ResponseFuture),
    Open(RecvStream),
    Refused(Refused),
}

impl Receiver {
    pub(crate) const fn asked(answer: ResponseFuture) -> Self {
        Self::of(Receiving::Asked(answer))
    }

    pub(crate) const fn open(recv: RecvStream) -> Self {
        Self::of(Receiving::Open(recv))
    }

    const fn of(state: Receiving) -> Self {
        Self { state, ended: false, opened: Opened { connected_in: None } }
    }

    /// Returns what the other end said when it agreed.
    pub(crate) const fn said(&self) -> Opened {
        self.opened
    }

    /// Waits until the other end has agreed.
    pub(crate) async fn opened(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_open(cx).map_ok(drop)).await
    }

    /// Says whether the other end has let it be known that it never saw the wish. Only for whoever gives the stream up:
    /// an answer that has come is lost.
    pub(crate) fn was_never_seen(&mut self) -> bool {
        let Receiving::Asked(answer) = &mut self.state else { return false };
        match Pin::new(answer).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Err(error)) => is_last_go_away(&error),
            Poll::Ready(Ok(_)) | Poll::Pending => false,
        }
    }

    /// Says whether the other end has ended its direction in good order, and everything was read.
    pub(crate) const fn has_ended(&self) -> bool {
        self.ended
    }

    /// Waits for the answer to an `open`; an error has [`Refused`] inside when the other end said no.
    pub(crate) fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<&mut RecvStream>> {
        if let Receiving::Asked(answer) = &mut self.state {
            let head = ready!(Pin::new(answer).poll(cx)).map_err(io_error)?;
            self.state = if agreed(head.status()) {
                self.opened = Opened::from_head(&head);
                Receiving::Open(head.into_body())
            } else {
                Receiving::Refused(Refused::from_head(&head))
            };
        }
        Poll::Ready(match &mut self.state {
            Receiving::Open(recv) => Ok(recv),
            Receiving::Refused(refused) => {
                Err(io::Error::new(io::ErrorKind::ConnectionRefused, refused.clone()))
            }
            Receiving::Asked(_) => unreachable!("answered above"),
        })
    }

    /// Returns the next bytes, and `None` at the end of the stream. Whoever is done with them calls
    /// [`Receiver::release`].
    pub(crate) fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let recv = match ready!(self.poll_open(cx)) {
            Ok(recv) => recv,
            Err(error) => return Poll::Ready(Some(Err(error))),
        };
        loop {
            match ready!(recv.poll_data(cx)) {
                Some(Ok(bytes)) if bytes.is_empty() => {}
                Some(Ok(bytes)) => return Poll::Ready(Some(Ok(bytes))),
                Some(Err(error)) => return Poll::Ready(Some(Err(io_error(error)))),
                None => {
                    self.ended = true;
                    return Poll::Ready(None);
                }
            }
        }
    }

    pub(crate) async fn chunk(&mut self) -> Option<io::Result<Bytes>> {
        poll_fn(|cx| self.poll_chunk(cx)).await
    }

    /// Returns how many bytes have come and were not released yet.
    pub(crate) fn held(&mut self) -> usize {
        match &mut self.state {
            Receiving::Open(recv) => recv.flow_control().used_capacity(),
            Receiving::Asked(_) | Receiving::Refused(_) => 0,
        }
    }

    /// Lets the other end send as many bytes more.
    pub(crate) fn release(&mut self, bytes: usize) {
        if bytes == 0 {
            return;
        }
        if let Receiving::Open(recv) = &mut self.state
            && let Err(error) = recv.flow_control().release_capacity(bytes)
        {
            tracing::debug!(%error, "More window was given back than had been used");
        }
    }
}

/// Statuses under which the other end has agreed.
const fn agreed(status: StatusCode) -> bool {
    matches!(status, StatusCode::OK | StatusCode::NO_CONTENT)
}

/// Bytes that go to the other end.
#[derive(Debug)]
pub(crate) struct Sender {
    state: Sending,
    ended: bool,
}

#[derive(Debug)]
enum Sending {
    /// The other end does not know yet that this one agrees; it need not before it hears something.
    Unanswered(SendResponse<Bytes>),
    Open(SendStream<Bytes>),
}

impl Sender {
    pub(crate) const fn new(send: SendStream<Bytes>) -> Self {
        Self { state: Sending::Open(send), ended: false }
    }

    /// Agrees with the first bytes that are sent, in one packet.
    pub(crate) const fn unanswered(respond: SendResponse<Bytes>) -> Self {
        Self { state: Sending::Unanswered(respond), ended: false }
    }

    pub(crate) const fn has_ended(&self) -> bool {
        self.ended
    }

    /// Says whether the other end has not been told yet that this one agrees.
    pub(crate) const fn is_unanswered(&self) -> bool {
        matches!(self.state, Sending::Unanswered(_))
    }

    /// Agrees, if that was not said yet.
    pub(crate) fn agree(&mut self) -> io::Result<()> {
        self.open().map(drop)
    }

    fn open(&mut self) -> io::Result<&mut SendStream<Bytes>> {
        if let Sending::Unanswered(respond) = &mut self.state {
            let agreed = respond.send_response(Opened::default().to_head(), false);
            self.state = Sending::Open(agreed.map_err(io_error)?);
        }
        match &mut self.state {
            Sending::Open(send) => Ok(send),
            Sending::Unanswered(_) => unreachable!("answered above"),
        }
    }

    /// Waits until at least one byte may be sent and returns how many, at most `wanted`.
    pub(crate) fn poll_room(
        &mut self,
        cx: &mut Context<'_>,
        wanted: usize,
    ) -> Poll<io::Result<usize>> {
        let wanted = wanted.min(RESERVE_MAX_BYTES);
        let send = self.open()?;
        send.reserve_capacity(wanted);
        loop {
            let room = send.capacity().min(wanted);
            if room > 0 {
                return Poll::Ready(Ok(room));
            }
            match ready!(send.poll_capacity(cx)) {
                // Older versions of h2 say that they have nothing; then wait on.
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(io_error(error))),
                None => return Poll::Ready(Err(aborted())),
            }
        }
    }

    /// Sends bytes for which there is room; a few may wait for it.
    pub(crate) fn send_now(&mut self, bytes: Bytes) -> io::Result<()> {
        self.open()?.send_data(bytes, false).map_err(|_| aborted())
    }

    /// Sends all of `bytes`, as the other end makes room for them.
    pub(crate) async fn send_all(&mut self, mut bytes: Bytes) -> io::Result<()> {
        while !bytes.is_empty() {
            let room = poll_fn(|cx| self.poll_room(cx, bytes.len())).await?;
            self.send_now(bytes.split_to(room))?;
        }
        Ok(())
    }

    /// Ends this direction in good order.
    pub(crate) fn end(&mut self) -> io::Result<()> {
        if self.ended {
            return Ok(());
        }
        self.open()?.send_data(Bytes::new(), true).map_err(|_| aborted())?;
        self.ended = true;
        Ok(())
    }

    /// Aborts both directions of the stream.
    pub(crate) fn abort(&mut self) {
        match &mut self.state {
            Sending::Unanswered(respond) => respond.send_reset(Reason::CANCEL),
            Sending::Open(send) => send.send_reset(Reason::CANCEL),
        }
        self.ended = true;
    }

    /// Waits until the other end aborts the stream, or the carrier breaks.
    pub(crate) async fn aborted(&mut self) -> io::Error {
        let reset = poll_fn(|cx| match &mut self.state {
            Sending::Unanswered(respond) => respond.poll_reset(cx),
            Sending::Open(send) => send.poll_reset(cx),
        });
        match reset.await {
            Ok(_) => aborted(),
            Err(error) => io_error(error),
        }
    }
}

fn aborted() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "the other end aborted the stream")
}

/// Says whether this is how the other end says that it takes no streams any more; as the error of a stream, that it has not
/// seen this one and will not.
pub(crate) fn is_last_go_away(error: &h2::Error) -> bool {
    error.is_go_away() && error.is_remote() && error.reason() == Some(Reason::NO_ERROR)
}

/// Tells an abort of the stream from the loss of its carrier.
pub(crate) fn io_error(error: h2::Error) -> io::Error {
    if error.is_reset() {
        aborted()
    } else {
        io::Error::new(io::ErrorKind::ConnectionAborted, error)
    }
}
