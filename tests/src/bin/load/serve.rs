//! The service at the far end: answers every kind of load on one port, each connection as its first byte asks.

use std::{net::SocketAddr, time::Duration};

use anyhow::Context as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
    runtime,
};

use crate::{
    bulk::Count,
    kind::{self, ASKED_BYTES, BULK_BYTES},
};

/// An answer of HTTP with a body of 128 bytes.
pub(crate) const ANSWER: &[u8; 168] = b"HTTP/1.1 200 OK\r\nContent-Length: 128\r\n\r\n\
    ................................................................\
    ...............................................................\n";

/// As many as come at once when 32 threads and 128 streams begin.
const BACKLOG: u32 = 4096;
/// Longer than any request of the load.
const REQUEST_MAX: usize = 512;

static BULK: [u8; BULK_BYTES] = [kind::BYTE; BULK_BYTES];

pub(crate) fn serve(listen: SocketAddr) -> anyhow::Result<()> {
    let runtime = runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let listener = listen_at(listen).with_context(|| format!("cannot listen at {listen}"))?;
        loop {
            let (tcp, _) = listener.accept().await?;
            tokio::spawn(async move {
                // A load that ends in the middle is not the service's concern.
                drop(answer(tcp).await);
            });
        }
    })
}

fn listen_at(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

async fn answer(mut tcp: TcpStream) -> std::io::Result<()> {
    tcp.set_nodelay(true)?;
    match tcp.read_u8().await? {
        kind::ECHO => echo(tcp).await,
        kind::ONCE => {
            let byte = tcp.read_u8().await?;
            tcp.write_u8(byte).await?;
            tcp.shutdown().await
        }
        kind::DOWNLOAD => loop {
            tcp.write_all(&BULK).await?;
        },
        kind::UPLOAD => count(tcp).await,
        kind::HTTP => answer_http(tcp).await,
        _ => Ok(()),
    }
}

async fn echo(mut tcp: TcpStream) -> std::io::Result<()> {
    let mut said = [0; ASKED_BYTES];
    loop {
        tcp.read_exact(&mut said).await?;
        tcp.write_all(&said).await?;
    }
}

async fn count(mut tcp: TcpStream) -> std::io::Result<()> {
    let mut count = Count::begin(Duration::from_millis(tcp.read_u64().await?));
    let mut bytes = vec![0; BULK_BYTES];
    loop {
        let read = tcp.read(&mut bytes).await?;
        count.add(read);
        if read == 0 || bytes[read - 1] == kind::LAST {
            break;
        }
    }
    tcp.write_all(&count.moved().to_bytes()).await?;
    tcp.shutdown().await
}

/// Answers requests that come one after the other; the first byte of the first one has been read.
async fn answer_http(mut tcp: TcpStream) -> std::io::Result<()> {
    let mut request = Vec::with_capacity(REQUEST_MAX);
    request.push(kind::HTTP);
    loop {
        while !request.ends_with(b"\r\n\r\n") {
            if request.len() >= REQUEST_MAX || tcp.read_buf(&mut request).await? == 0 {
                return Ok(());
            }
        }
        let close = request.windows(5).any(|word| word == b"close");
        request.clear();
        tcp.write_all(ANSWER).await?;
        if close {
            return tcp.shutdown().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_has_as_many_bytes_as_it_says() {
        let body = ANSWER.windows(4).position(|end| end == b"\r\n\r\n").expect("a head") + 4;
        assert_eq!(ANSWER.len() - body, 128);
    }
}
