//! Moves bytes between the two halves of a carrier, unread.
//!
//! What passes is ciphertext; nothing here looks at it, keeps it or logs it. A carrier with nothing to carry holds
//! neither a pipe nor a buffer.

use std::{
    io,
    net::Shutdown,
    pin::{Pin, pin},
    time::Duration,
};

use bytes::BytesMut;
use tokio::{net::TcpStream, task::consume_budget, time::sleep};

use crate::half::{BUFFER_BYTES, Half, Source, Target};
#[cfg(target_os = "linux")]
use crate::pipe::{Pipe, Pipes};

/// TLS ends both directions together: a half that is still open after this belongs to a peer that is gone.
const HALF_OPEN: Duration = Duration::from_secs(10);

/// Splices until both directions have ended or one of them fails.
pub(crate) async fn splice(laptop: &mut Half, cluster: &mut Half) -> io::Result<()> {
    if let (Half::Raw(laptop), Half::Raw(cluster)) = (&*laptop, &*cluster) {
        let (to_cluster, to_laptop) = (one_way(laptop, cluster), one_way(cluster, laptop));
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

async fn one_way(from: &TcpStream, to: &TcpStream) -> io::Result<()> {
    loop {
        from.readable().await?;
        // Room for what passes is taken while something does: most carriers are idle most of the time.
        if Box::pin(pass_on_what_is_there(from, to)).await? {
            return shutdown(to);
        }
    }
}

/// Passes on bytes until the socket has none, and says whether that was the end.
async fn pass_on_what_is_there(from: &TcpStream, to: &TcpStream) -> io::Result<bool> {
    #[cfg(target_os = "linux")]
    if let Some(pipe) = Pipes::of_process().take() {
        return pass_through(pipe, from, to).await;
    }
    copy(from, to).await
}

#[cfg(target_os = "linux")]
async fn pass_through(mut pipe: Pipe<'_>, from: &TcpStream, to: &TcpStream) -> io::Result<bool> {
    loop {
        match pipe.fill_from(from) {
            Ok(0) => return Ok(true),
            Ok(_) => pipe.empty_into(to).await?,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        }
        // A carrier that always has bytes must not keep the others from the processor.
        consume_budget().await;
    }
}

async fn copy(from: &TcpStream, to: &TcpStream) -> io::Result<bool> {
    let mut buffer = BytesMut::with_capacity(BUFFER_BYTES);
    loop {
        buffer.clear();
        match from.try_read_buf(&mut buffer) {
            Ok(0) => return Ok(true),
            Ok(_) => write_all(to, &buffer).await?,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
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
                if copy(&from, &to).await.expect("copied") {
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
}
