//! Moves bytes between a stream and a TCP connection, so that neither application can tell that there is a tunnel.
//!
//! The end of one direction is passed on by itself, an abort stays an abort, and a stream whose reader has stopped takes
//! no more memory than its window. An idle connection holds no buffer and lives as long as both ends want: database
//! pools stay open for hours. Only a connection that is closed in one direction and moves nothing in the other is
//! aborted after a while, because an application that forgot it will never end it.

use std::{
    io,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use fairlead_model::timers::HALF_CLOSED_LINGER;
use fairlead_wire::open::Refused;
use socket2::SockRef;
use tokio::{
    io::Interest,
    net::TcpStream,
    task::consume_budget,
    time::{Instant, sleep_until, timeout},
};

use crate::{
    carrier::FRAME_BYTES,
    half::{Receiver, Sender},
    socket::abort_on_close,
    stream::Stream,
    unread::{LOOK_EVERY, Stalled},
};

/// What fits into a frame.
const BUFFER_BYTES: usize = FRAME_BYTES as usize;
/// Less room than this in a buffer, and a new one is cheaper than the calls it takes to fill the rest.
const BUFFER_USEFUL_BYTES: usize = 8 << 10;

/// Bytes moved so far.
#[derive(Debug, Default)]
struct Moved {
    up: AtomicU64,
    down: AtomicU64,
}

impl Moved {
    /// Returns the bytes from the TCP connection into the stream.
    fn up(&self) -> u64 {
        self.up.load(Ordering::Relaxed)
    }

    /// Returns the bytes from the stream to the TCP connection.
    fn down(&self) -> u64 {
        self.down.load(Ordering::Relaxed)
    }

    fn both(&self) -> u64 {
        self.up().wrapping_add(self.down())
    }
}

/// How a copy ended.
#[derive(Debug)]
pub enum Ending {
    /// Both directions ended in good order.
    Clean,
    /// The application at the TCP connection aborted; the other end of the stream was told.
    SocketAborted(io::Error),
    /// The other end of the stream aborted, or the carrier broke; the application saw a reset.
    StreamAborted(io::Error),
    /// The other end did not agree to open the stream; the application saw a reset.
    Refused(Refused),
    /// Half closed, and nothing moved any more.
    Lingered,
}

#[derive(Debug)]
pub struct Copied {
    pub up: u64,
    pub down: u64,
    pub ending: Ending,
}

/// Moves bytes both ways until both directions have ended, or one of the ends aborts.
///
/// No `async fn`: that would keep a second place for each argument, in the memory of every idle connection.
pub fn both_ways(mut stream: Stream, tcp: TcpStream) -> impl Future<Output = Copied> + Send {
    if let Err(error) = tcp.set_nodelay(true) {
        tracing::debug!(%error, "Could not set TCP_NODELAY");
    }
    let mut application = Application { tcp, ended: false };
    async move {
        let moved = Moved::default();
        let ending = until_an_end(&mut stream, &application.tcp, &moved).await;
        application.ended = matches!(ending, Ending::Clean);
        if !application.ended {
            stream.abort();
        }
        Copied { up: moved.up(), down: moved.down(), ending }
    }
}

/// The application's connection. Unless both directions have ended it is aborted when it is dropped: a copy may be
/// cancelled at any moment, and the application must not take that for the end of what it reads.
struct Application {
    tcp: TcpStream,
    ended: bool,
}

impl Drop for Application {
    fn drop(&mut self) {
        if !self.ended {
            abort_on_close(&self.tcp);
        }
    }
}

async fn until_an_end(stream: &mut Stream, tcp: &TcpStream, moved: &Moved) -> Ending {
    let unread = stream.take_unread();
    let Stream { receiver, sender, count, .. } = stream;
    let up = copy_up(tcp, sender, |bytes| {
        moved.up.fetch_add(bytes as u64, Ordering::Relaxed);
        count.sent(bytes);
    });
    let down = copy_down(unread, receiver, tcp, |bytes| {
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
            Ok(()) if ended_up.is_some() && ended_down => return Ending::Clean,
            Ok(()) => linger.begin_again(),
        }
    }
}

/// Moves what the application writes into the stream, and its end. Gives the sender back, to be watched for an abort.
async fn copy_up<'s>(
    tcp: &TcpStream,
    sender: &'s mut Sender,
    moved: impl Fn(usize),
) -> Result<&'s mut Sender, Ending> {
    loop {
        tokio::select! {
            readable = tcp.readable() => readable.map_err(Ending::SocketAborted)?,
            error = sender.aborted() => return Err(Ending::StreamAborted(error)),
        }
        // What it needs beside its buffer goes with it, too.
        if Box::pin(copy_what_is_there(tcp, sender, &moved)).await? {
            return Ok(sender);
        }
    }
}

/// Moves bytes until the socket has none, and says whether that was the end. The buffer lives no longer than this, so
/// that an idle connection costs none.
async fn copy_what_is_there(
    tcp: &TcpStream,
    sender: &mut Sender,
    moved: impl Fn(usize),
) -> Result<bool, Ending> {
    let mut buffer = BytesMut::with_capacity(BUFFER_BYTES);
    loop {
        match tcp.try_read_buf(&mut buffer) {
            Ok(0) => {
                sender.end().map_err(Ending::StreamAborted)?;
                return Ok(true);
            }
            Ok(read) => {
                sender.send_all(buffer.split().freeze()).await.map_err(Ending::StreamAborted)?;
                moved(read);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(Ending::SocketAborted(error)),
        }
        if buffer.capacity() < BUFFER_USEFUL_BYTES {
            buffer = BytesMut::with_capacity(BUFFER_BYTES);
        }
        consume_budget().await;
    }
}

/// Moves what the other end sends to the application, and its end. Window is given back when the application's socket
/// has taken the bytes, and not before.
async fn copy_down(
    unread: Bytes,
    receiver: &mut Receiver,
    tcp: &TcpStream,
    moved: impl Fn(usize),
) -> Result<(), Ending> {
    let mut next = (!unread.is_empty()).then_some(Ok(unread));
    loop {
        let chunk = match next.take() {
            Some(first) => Some(first),
            None => receiver.chunk().await,
        };
        let Some(chunk) = chunk else { break };
        let chunk = chunk.map_err(stream_ending)?;
        write_all(tcp, &chunk, receiver, &moved).await.map_err(Ending::SocketAborted)?;
        receiver.release(chunk.len());
        consume_budget().await;
    }
    match SockRef::from(tcp).shutdown(std::net::Shutdown::Write) {
        // The application has closed already; what it did not read is lost to it by its own choice.
        Err(error) if error.kind() != io::ErrorKind::NotConnected => {
            Err(Ending::SocketAborted(error))
        }
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

fn stream_ending(error: io::Error) -> Ending {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Refused>()) {
        Some(refused) => Ending::Refused(refused.clone()),
        None => Ending::StreamAborted(error),
    }
}

/// Notices that nothing has moved for a while.
struct Linger<'m> {
    moved: &'m Moved,
    seen: u64,
    since: Instant,
}

impl<'m> Linger<'m> {
    const PATIENCE: Duration = HALF_CLOSED_LINGER;

    fn new(moved: &'m Moved) -> Self {
        Self { moved, seen: moved.both(), since: Instant::now() }
    }

    fn begin_again(&mut self) {
        *self = Self::new(self.moved);
    }

    async fn passed(&mut self) {
        loop {
            Box::pin(sleep_until(self.since + Self::PATIENCE)).await;
            if self.seen == self.moved.both() {
                return;
            }
            self.begin_again();
        }
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
        assert!(bytes <= 1280, "{bytes} bytes, and a laptop has thousands of them");
    }
}
