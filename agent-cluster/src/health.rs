//! What the kubelet asks: is the process alive, and should it be counted on. Two fixed answers over HTTP/1.1, too
//! little for a web framework on the data path.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::listen::{dual_stack, serve_each};

const REQUEST_LIMIT: Duration = Duration::from_secs(2);
const REQUEST_MAX_BYTES: usize = 4096;
/// The kubelet asks two things at a time.
const ASKERS_MAX: usize = 16;

/// Whether this process should be counted on; false until it says so.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ready(Arc<AtomicBool>);

impl Ready {
    pub(crate) fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::Relaxed);
    }
}

/// Answers `/healthz` and `/readyz` on `port` for as long as the process lives.
pub(crate) fn serve(port: u16, ready: Ready) -> std::io::Result<()> {
    let listener = dual_stack(port)?;
    tokio::spawn(serve_each(listener, ASKERS_MAX, move |stream, _| answer(stream, ready.clone())));
    Ok(())
}

async fn answer(mut stream: TcpStream, ready: Ready) {
    let mut request = [0; REQUEST_MAX_BYTES];
    let Ok(Ok(read)) = timeout(REQUEST_LIMIT, stream.read(&mut request)).await else { return };
    let reply = reply_to(&request[..read], ready.0.load(Ordering::Relaxed));
    let _asker_gone = timeout(REQUEST_LIMIT, stream.write_all(reply.as_bytes())).await;
}

fn reply_to(request: &[u8], ready: bool) -> String {
    let (status, body) = match request {
        r if r.starts_with(b"GET /healthz ") => ("200 OK", "ok"),
        r if r.starts_with(b"GET /readyz ") && ready => ("200 OK", "ready"),
        r if r.starts_with(b"GET /readyz ") => ("503 Service Unavailable", "not ready"),
        _ => ("404 Not Found", "not found"),
    };
    let length = body.len();
    format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alive_and_ready_are_two_questions() {
        assert!(reply_to(b"GET /healthz HTTP/1.1\r\n", false).starts_with("HTTP/1.1 200"));
        assert!(reply_to(b"GET /readyz HTTP/1.1\r\n", false).starts_with("HTTP/1.1 503"));
        assert!(reply_to(b"GET /readyz HTTP/1.1\r\n", true).starts_with("HTTP/1.1 200"));
        assert!(reply_to(b"GET / HTTP/1.1\r\n", true).starts_with("HTTP/1.1 404"));
    }
}
