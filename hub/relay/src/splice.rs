//! Moves bytes between the two halves of a carrier, unread.
//!
//! What passes is ciphertext; nothing here looks at it, keeps it or logs it. A carrier with nothing to carry holds no
//! buffer.

use std::{io, net::Shutdown, time::Duration};

use bytes::BytesMut;
use tokio::{net::TcpStream, task::consume_budget, time::sleep};

const BUFFER_BYTES: usize = 64 << 10;
/// TLS ends both directions together: a half that is still open after this belongs to a peer that is gone.
const HALF_OPEN: Duration = Duration::from_secs(10);

/// Splices until both directions have ended or one of them fails.
pub(crate) async fn splice(laptop: &TcpStream, cluster: &TcpStream) -> io::Result<()> {
    let to_cluster = one_way(laptop, cluster);
    let to_laptop = one_way(cluster, laptop);
    tokio::pin!(to_cluster, to_laptop);
    tokio::select! {
        ended = &mut to_cluster => {
            ended?;
            within(HALF_OPEN, to_laptop).await
        }
        ended = &mut to_laptop => {
            ended?;
            within(HALF_OPEN, to_cluster).await
        }
    }
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
        if pass_on_what_is_there(from, to).await? {
            return shutdown(to);
        }
    }
}

/// Passes on bytes until the socket has none, and says whether that was the end.
async fn pass_on_what_is_there(from: &TcpStream, to: &TcpStream) -> io::Result<bool> {
    let mut buffer = BytesMut::with_capacity(BUFFER_BYTES);
    loop {
        buffer.clear();
        match from.try_read_buf(&mut buffer) {
            Ok(0) => return Ok(true),
            Ok(_) => write_all(to, &buffer).await?,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        }
        // A carrier that always has bytes must not keep the others from the processor.
        consume_budget().await;
    }
}

async fn write_all(to: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match to.try_write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => to.writable().await?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn shutdown(to: &TcpStream) -> io::Result<()> {
    match socket2::SockRef::from(to).shutdown(Shutdown::Write) {
        Err(error) if error.kind() != io::ErrorKind::NotConnected => Err(error),
        _ => Ok(()),
    }
}
