//! Moves bytes between the two halves of a carrier, unread.
//!
//! What passes is ciphertext; nothing here looks at it, keeps it or logs it. A carrier with nothing to carry holds
//! neither a pipe nor a buffer.

use std::{
    future::poll_fn,
    io,
    mem::MaybeUninit,
    net::Shutdown,
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncRead as _, ReadBuf},
    net::{TcpStream, tcp::ReadHalf},
    task::consume_budget,
    time::sleep,
};

use crate::half::{BUFFER_BYTES, Half, Source, Target};
#[cfg(target_os = "linux")]
use crate::pipe::{Pipe, Pipes};

/// TLS ends both directions together: a half that is still open after this belongs to a peer that is gone.
const HALF_OPEN: Duration = Duration::from_secs(10);
/// What small requests and answers need together, and a stack has.
const SIP_BYTES: usize = 16 << 10;

/// Splices until both directions have ended or one of them fails.
pub(crate) async fn splice(laptop: &mut Half, cluster: &mut Half) -> io::Result<()> {
    if let (Half::Raw(laptop), Half::Raw(cluster)) = (&mut *laptop, &mut *cluster) {
        let ((from_laptop, laptop), (from_cluster, cluster)) = (laptop.split(), cluster.split());
        let to_cluster = one_way(from_laptop, cluster.as_ref());
        let to_laptop = one_way(from_cluster, laptop.as_ref());
        return until_both_end(pin!(to_cluster), pin!(to_laptop)).await;
    }
    Box::pin(message_by_message(laptop, cluster)).await
}

/// Where a half came in a WebSocket, bytes are in messages, which are passed on as they are.
async fn message_by_message(laptop: &mut Half, cluster: &mut Half) -> io::Result<()> {
    let (mut from_laptop, mut to_laptop) = laptop.parts();
    let (mut from_cluster, mut to_cluster) = cluster.parts();
    let to_cluster = piece_by_piece(&mut from_laptop, &mut to_cluster);
    let to_laptop = piece_by_piece(&mut from_cluster, &mut to_laptop);
    until_both_end(pin!(to_cluster), pin!(to_laptop)).await
}

/// Takes both pinned: taken whole, each would be there twice for as long as the carrier is.
async fn until_both_end<F: Future<Output = io::Result<()>>>(
    mut to_cluster: Pin<&mut F>,
    mut to_laptop: Pin<&mut F>,
) -> io::Result<()> {
    tokio::select! {
        ended = &mut to_cluster => {
            ended?;
            Box::pin(within(HALF_OPEN, to_laptop)).await
        }
        ended = &mut to_laptop => {
            ended?;
            Box::pin(within(HALF_OPEN, to_cluster)).await
        }
    }
}

async fn piece_by_piece(from: &mut Source<'_>, to: &mut Target<'_>) -> io::Result<()> {
    while let Some(bytes) = from.next().await? {
        to.send(bytes).await?;
        consume_budget().await;
    }
    to.end().await
}

async fn within(
    limit: Duration,
    direction: impl Future<Output = io::Result<()>>,
) -> io::Result<()> {
    tokio::select! {
        ended = direction => ended,
        () = sleep(limit) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// Copies what fits into a sip and moves more through a pipe: a pipe takes three system calls, and whoever receives pays
/// for many small pages.
async fn one_way(mut from: ReadHalf<'_>, to: &TcpStream) -> io::Result<()> {
    let mut is_bulk = false;
    loop {
        // A carrier that always has bytes must not keep the others from the processor.
        consume_budget().await;
        from.readable().await?;
        if !is_bulk {
            match sip(&mut from, to).await? {
                Sip::All => continue,
                Sip::End => return shutdown(to),
                Sip::Full => {}
            }
        }
        // Room for what passes is taken while something does: most carriers are idle most of the time.
        let passed = Box::pin(pass_on_what_is_there(from.as_ref(), to)).await?;
        if passed.ended {
            return shutdown(to);
        }
        is_bulk = passed.bytes >= SIP_BYTES;
    }
}

/// What came of one read into a small buffer, all of which was passed on.
enum Sip {
    /// The socket has nothing else.
    All,
    /// The socket may have more.
    Full,
    End,
}

async fn sip(from: &mut ReadHalf<'_>, to: &TcpStream) -> io::Result<Sip> {
    let (sip, rest) = poll_fn(|cx| Poll::Ready(take_sip(cx, from, to))).await?;
    // Seldom there, and large.
    if !rest.is_empty() {
        Box::pin(write_all(to, &rest)).await?;
    }
    Ok(sip)
}

/// Reads and writes once, with a buffer that lives no longer; returns what could not be written at once.
fn take_sip(
    cx: &mut Context<'_>,
    from: &mut ReadHalf<'_>,
    to: &TcpStream,
) -> io::Result<(Sip, Bytes)> {
    let mut room = [MaybeUninit::uninit(); SIP_BYTES];
    let mut buffer = ReadBuf::uninit(&mut room);
    let Poll::Ready(read) = Pin::new(from).poll_read(cx, &mut buffer) else {
        return Ok((Sip::All, Bytes::new()));
    };
    read?;
    let bytes = buffer.filled();
    let sip = match bytes.len() {
        0 => return Ok((Sip::End, Bytes::new())),
        SIP_BYTES => Sip::Full,
        _ => Sip::All,
    };
    let written = match to.try_write(bytes) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
        written => written?,
    };
    Ok((sip, Bytes::copy_from_slice(&bytes[written..])))
}

/// What was passed on until the socket had nothing else.
struct Passed {
    bytes: usize,
    ended: bool,
}

async fn pass_on_what_is_there(from: &TcpStream, to: &TcpStream) -> io::Result<Passed> {
    #[cfg(target_os = "linux")]
    if let Some(pipe) = Pipes::of_process().take() {
        return pass_through(pipe, from, to).await;
    }
    copy(from, to).await
}

#[cfg(target_os = "linux")]
async fn pass_through(mut pipe: Pipe<'_>, from: &TcpStream, to: &TcpStream) -> io::Result<Passed> {
    let mut bytes = 0_usize;
    loop {
        match pipe.fill_from(from) {
            Ok(0) => return Ok(Passed { bytes, ended: true }),
            Ok(filled) => {
                bytes = bytes.saturating_add(filled);
                pipe.empty_into(to).await?;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Ok(Passed { bytes, ended: false });
            }
            Err(error) => return Err(error),
        }
        // A carrier that always has bytes must not keep the others from the processor.
        consume_budget().await;
    }
}

async fn copy(from: &TcpStream, to: &TcpStream) -> io::Result<Passed> {
    let mut buffer = BytesMut::with_capacity(BUFFER_BYTES);
    let mut bytes = 0_usize;
    loop {
        buffer.clear();
        match from.try_read_buf(&mut buffer) {
            Ok(0) => return Ok(Passed { bytes, ended: true }),
            Ok(read) => {
                bytes = bytes.saturating_add(read);
                write_all(to, &buffer).await?;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Ok(Passed { bytes, ended: false });
            }
            Err(error) => return Err(error),
        }
        consume_budget().await;
    }
}

pub(crate) async fn write_all(to: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match to.try_write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => to.writable().await?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

pub(crate) fn shutdown(to: &TcpStream) -> io::Result<()> {
    match socket2::SockRef::from(to).shutdown(Shutdown::Write) {
        Err(error) if error.kind() != io::ErrorKind::NotConnected => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    async fn connection() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
        (near.expect("connected"), far.expect("connected").0)
    }

    #[tokio::test]
    async fn without_a_pipe_bytes_are_copied() {
        let ((mut said, from), (to, mut heard)) = (connection().await, connection().await);
        let words = vec![7; 1 << 20];
        let expected = words.clone();
        let says = tokio::spawn(async move {
            said.write_all(&words).await.expect("taken");
        });
        let copied = tokio::spawn(async move {
            loop {
                from.readable().await.expect("watched");
                if copy(&from, &to).await.expect("copied").ended {
                    return;
                }
            }
        });
        let mut got = Vec::new();
        heard.read_to_end(&mut got).await.expect("ended");
        assert!(got == expected);
        says.await.expect("no panic");
        copied.await.expect("no panic");
    }

    /// Says pieces of these sizes, each when the one before was passed on, and returns what was heard.
    async fn passed_on(pieces: &[usize]) {
        let ((mut said, mut from), (to, mut heard)) = (connection().await, connection().await);
        let passing = tokio::spawn(async move {
            let (reads, _) = from.split();
            one_way(reads, &to).await
        });
        for (number, bytes) in pieces.iter().enumerate() {
            let piece = vec![u8::try_from(number).expect("few"); *bytes];
            let mut got = vec![0; *bytes];
            let (sent, received) = tokio::join!(said.write_all(&piece), heard.read_exact(&mut got));
            sent.expect("taken");
            received.expect("arrived");
            assert!(got == piece, "piece {number} of {bytes}");
        }
        drop(said);
        assert_eq!(heard.read(&mut [0]).await.expect("ended"), 0);
        passing.await.expect("no panic").expect("passed on");
    }

    #[tokio::test]
    async fn small_pieces_and_large_ones_arrive_whole_and_so_does_the_end() {
        let (small, large) = (100, 1 << 20);
        passed_on(&[1, SIP_BYTES - 1, SIP_BYTES, SIP_BYTES + 1, small]).await;
        passed_on(&[large, small, small, large, SIP_BYTES, large, small]).await;
        passed_on(&[]).await;
    }

    #[tokio::test]
    async fn small_pieces_wait_for_a_reader_that_has_stopped() {
        let ((mut said, mut from), (to, mut heard)) = (connection().await, connection().await);
        let passing = tokio::spawn(async move {
            let (reads, _) = from.split();
            one_way(reads, &to).await
        });
        let piece = [7; 1000];
        let mut bytes = 0;
        // Until nothing more is taken on the whole way.
        while let Ok(sent) =
            tokio::time::timeout(Duration::from_millis(300), said.write(&piece)).await
        {
            bytes += sent.expect("taken");
        }
        drop(said);
        let mut got = Vec::new();
        heard.read_to_end(&mut got).await.expect("ended");
        assert_eq!(got.len(), bytes);
        passing.await.expect("no panic").expect("passed on");
    }
}
