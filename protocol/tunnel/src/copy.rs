//! Moves bytes between a stream and a TCP connection, so that neither application can tell that there is a tunnel.
//!
//! The end of one direction is passed on by itself, an abort stays an abort, and a stream whose reader has stopped takes
//! no more memory than its window. An idle connection holds no buffer and lives as long as both ends want: database
//! pools stay open for hours. Only a connection that is closed in one direction and moves nothing in the other is
//! aborted after a while, because an application that forgot it will never end it.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    sync::atomic::{AtomicBool, Ordering},
    task::Poll,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures_util::{FutureExt as _, future::OptionFuture};
use socket2::SockRef;
use tokio::{
    io::Interest,
    net::{TcpStream, tcp::ReadHalf},
    task::consume_budget,
    time::{sleep, timeout},
};
use tokio_util::io::poll_read_buf;

use crate::{
    carrier::FRAME_BYTES,
    ended::{Copied, Ending},
    half::{Receiver, Sender},
    linger::{Linger, Moved},
    socket::abort_on_close,
    stream::Stream,
    unread::{LOOK_EVERY, Stalled},
    untaken::Said,
};

/// What fits into a frame.
const BUFFER_BYTES: usize = FRAME_BYTES as usize;
/// Less room than this in a buffer, and a new one is cheaper than the calls it takes to fill the rest.
const BUFFER_USEFUL_BYTES: usize = 8 << 10;

/// Whoever opened the stream keeps what its application said until it hears that this end agrees, and a service may be
/// silent for hours.
const AGREE_WITHIN: Duration = Duration::from_secs(1);

/// Moves bytes both ways until both directions have ended, or one of the ends aborts.
pub fn both_ways(stream: Stream, tcp: TcpStream) -> impl Future<Output = Copied> + Send {
    carry(stream, tcp, Said::to_somebody()).map(|(copied, _)| copied)
}

/// The same, and gives the application's connection back with what it has said, if the other end has never seen the
/// stream and all of that is known.
///
/// No `async fn`: that would keep a second place for each argument, in the memory of every idle connection.
pub(crate) fn carry(
    mut stream: Stream,
    mut tcp: TcpStream,
    said: Said,
) -> impl Future<Output = (Copied, Option<(TcpStream, Vec<u8>)>)> + Send {
    if let Err(error) = tcp.set_nodelay(true) {
        tracing::debug!(%error, "Could not set TCP_NODELAY");
    }
    let between = Between { is_deaf: AtomicBool::new(false), said };
    async move {
        let moved = Moved::default();
        let mut application = Application { tcp: &mut tcp, is_done: false };
        let ending = until_an_end(&mut stream, application.tcp, &moved, &between).await;
        let is_untaken = matches!(ending, Ending::StreamAborted(_)) && stream.was_never_seen();
        let untaken = if is_untaken { between.said.kept() } else { None };
        application.is_done = matches!(ending, Ending::Clean) || untaken.is_some();
        if !application.is_done {
            stream.abort();
        }
        drop(application);
        let copied = Copied { up: moved.up(), down: moved.down(), ending };
        (copied, untaken.map(|said| (tcp, said)))
    }
}

/// What the two directions of a copy tell each other.
struct Between {
    /// While the direction down listens, it hears of an abort; when it does not, the other one has to.
    is_deaf: AtomicBool,
    said: Said,
}

impl Between {
    fn is_deaf(&self) -> bool {
        self.is_deaf.load(Ordering::Relaxed)
    }

    fn turns_deaf(&self, is_deaf: bool) {
        self.is_deaf.store(is_deaf, Ordering::Relaxed);
    }
}

/// The application's connection. Unless both directions have ended it is aborted when it is dropped: a copy may be
/// cancelled at any moment, and the application must not take that for the end of what it reads.
struct Application<'t> {
    tcp: &'t mut TcpStream,
    /// Both directions have ended, or somebody else goes on with it.
    is_done: bool,
}

impl Drop for Application<'_> {
    fn drop(&mut self) {
        if !self.is_done {
            abort_on_close(self.tcp);
        }
    }
}

async fn until_an_end(
    stream: &mut Stream,
    tcp: &mut TcpStream,
    moved: &Moved,
    between: &Between,
) -> Ending {
    let unread = stream.take_unread();
    let Stream { receiver, sender, count, .. } = stream;
    let (reads, writes) = tcp.split();
    let tcp: &TcpStream = writes.as_ref();
    let up = copy_up(reads, sender, between, |bytes| {
        moved.up.fetch_add(bytes as u64, Ordering::Relaxed);
        count.sent(bytes);
    });
    let down = copy_down(unread, receiver, tcp, between, |bytes| {
        moved.down.fetch_add(bytes as u64, Ordering::Relaxed);
        count.received(bytes);
    });
    tokio::pin!(up, down);
    let mut ended_up: Option<&mut Sender> = None;
    let mut ended_down = false;
    let mut linger = Linger::new(moved);
    loop {
        let half_closed = ended_up.is_some() || ended_down;
        let step = tokio::select! {
            ended = &mut up, if ended_up.is_none() => ended.map(|sender| ended_up = Some(sender)),
            ended = &mut down, if !ended_down => ended.map(|()| ended_down = true),
            error = abort_after(ended_up.as_deref_mut()) => Err(Ending::StreamAborted(error)),
            error = abort_of(tcp) => Err(Ending::SocketAborted(error)),
            () = linger.passed(), if half_closed => Err(Ending::Lingered),
        };
        match step {
            Err(ending) => return ending,
            // The close that follows says that it was the end.
            Ok(()) if ended_up.is_some() && ended_down => return Ending::Clean,
            Ok(()) => {
                // Before the application hears of it, which may connect anew.
                count.half_closed();
                linger.begin_again();
            }
        }
        if ended_down && let Err(error) = say_the_end(tcp) {
            return Ending::SocketAborted(error);
        }
    }
}

/// Moves what the application writes into the stream, and its end. Gives the sender back, to be watched for an abort.
///
/// Does not wait for an abort without need: `h2` wakes whoever does when he sends himself, and a task that wakes itself is
/// run twice, and a second processor with it.
async fn copy_up<'s>(
    mut tcp: ReadHalf<'_>,
    sender: &'s mut Sender,
    between: &Between,
    moved: impl Fn(usize),
) -> Result<&'s mut Sender, Ending> {
    say_first(between.said.first(), sender, &moved)?;
    let mut silence =
        OptionFuture::from(sender.is_unanswered().then(|| Box::pin(sleep(AGREE_WITHIN))));
    loop {
        tokio::select! {
            readable = tcp.readable() => readable.map_err(Ending::SocketAborted)?,
            error = sender.aborted(), if between.is_deaf() => {
                return Err(Ending::StreamAborted(error));
            }
            _ = &mut silence, if sender.is_unanswered() => {
                silence = None.into();
                sender.agree().map_err(Ending::StreamAborted)?;
                continue;
            }
        }
        // What it needs beside its buffer goes with it, too.
        if Box::pin(copy_what_is_there(&mut tcp, sender, &between.said, &moved)).await? {
            return Ok(sender);
        }
        if !sender.is_unanswered() {
            silence = None.into();
        }
    }
}

fn say_first(first: Bytes, sender: &mut Sender, moved: impl Fn(usize)) -> Result<(), Ending> {
    let bytes = first.len();
    if bytes > 0 {
        sender.send_now(first).map_err(Ending::StreamAborted)?;
        moved(bytes);
    }
    Ok(())
}

/// Moves bytes until the socket has none, and says whether that was the end. The buffer lives no longer than this, so
/// that an idle connection costs none.
async fn copy_what_is_there(
    tcp: &mut ReadHalf<'_>,
    sender: &mut Sender,
    said: &Said,
    moved: impl Fn(usize),
) -> Result<bool, Ending> {
    let mut buffer = BytesMut::with_capacity(BUFFER_BYTES);
    loop {
        consume_budget().await;
        match read_now(tcp, &mut buffer).await.map_err(Ending::SocketAborted)? {
            None => return Ok(false),
            Some(0) => {
                sender.end().map_err(Ending::StreamAborted)?;
                return Ok(true);
            }
            Some(read) => {
                said.keep(&buffer);
                sender.send_all(buffer.split().freeze()).await.map_err(Ending::StreamAborted)?;
                moved(read);
            }
        }
        if buffer.capacity() < BUFFER_USEFUL_BYTES {
            buffer = BytesMut::with_capacity(BUFFER_BYTES);
        }
    }
}

/// Reads what the socket has; `None` when that is nothing. After a read that left room in the buffer it is known that
/// nothing is left, so that the next one makes no system call: of `try_read`, each last one would.
async fn read_now(tcp: &mut ReadHalf<'_>, buffer: &mut BytesMut) -> io::Result<Option<usize>> {
    poll_fn(|cx| match poll_read_buf(Pin::new(tcp), cx, buffer) {
        Poll::Ready(read) => Poll::Ready(read.map(Some)),
        Poll::Pending => Poll::Ready(Ok(None)),
    })
    .await
}

/// Moves what the other end sends to the application. Window is given back when the application's socket
/// has taken the bytes, and not before.
async fn copy_down(
    unread: Bytes,
    receiver: &mut Receiver,
    tcp: &TcpStream,
    between: &Between,
    moved: impl Fn(usize),
) -> Result<(), Ending> {
    receiver.opened().await.map_err(Ending::of_stream)?;
    between.said.forget();
    let mut next = (!unread.is_empty()).then_some(Ok(unread));
    loop {
        let chunk = match next.take() {
            Some(first) => Some(first),
            None => receiver.chunk().await,
        };
        let Some(chunk) = chunk else { break };
        let chunk = chunk.map_err(Ending::of_stream)?;
        between.turns_deaf(true);
        write_all(tcp, &chunk, receiver, &moved).await.map_err(Ending::SocketAborted)?;
        between.turns_deaf(false);
        receiver.release(chunk.len());
        consume_budget().await;
    }
    between.turns_deaf(true);
    Ok(())
}

/// Ends the direction to the application, which may go on writing.
fn say_the_end(tcp: &TcpStream) -> io::Result<()> {
    match SockRef::from(tcp).shutdown(std::net::Shutdown::Write) {
        // The application has closed already; what it did not read is lost to it by its own choice.
        Err(error) if error.kind() != io::ErrorKind::NotConnected => Err(error),
        _ => Ok(()),
    }
}

async fn write_all(
    tcp: &TcpStream,
    mut bytes: &[u8],
    receiver: &mut Receiver,
    moved: impl Fn(usize),
) -> io::Result<()> {
    while !bytes.is_empty() {
        match tcp.try_write(bytes) {
            Ok(written) => {
                moved(written);
                bytes = &bytes[written..];
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                // Seldom there, and large: an idle connection keeps no room for it.
                Box::pin(until_writable(tcp, receiver)).await?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Waits for an application that does not read, and says meanwhile what is held for it.
async fn until_writable(tcp: &TcpStream, receiver: &mut Receiver) -> io::Result<()> {
    let mut stalled = None;
    loop {
        if let Ok(writable) = timeout(LOOK_EVERY, tcp.writable()).await {
            return writable;
        }
        stalled.get_or_insert_with(Stalled::begin).holds(receiver.held())?;
    }
}

/// Waits for the other end to abort a stream into which nothing is sent any more.
async fn abort_after(ended: Option<&mut Sender>) -> io::Error {
    match ended {
        Some(sender) => sender.aborted().await,
        None => std::future::pending().await,
    }
}

/// Waits for a reset of the application's connection, which nobody would notice while nothing is read from it.
async fn abort_of(tcp: &TcpStream) -> io::Error {
    match tcp.ready(Interest::ERROR).await {
        Ok(_) => {
            tcp.take_error().ok().flatten().unwrap_or_else(|| io::ErrorKind::ConnectionReset.into())
        }
        Err(error) => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_needs_little_room() {
        fn size_of_what_it_returns<F>(_: fn(Stream, TcpStream) -> F) -> usize {
            size_of::<F>()
        }
        let bytes = size_of_what_it_returns(both_ways);
        assert!(bytes <= 1384, "{bytes} bytes, and a laptop has thousands of them");
    }
}
