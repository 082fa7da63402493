//! How this program listens: on every address of the pod, whatever families the node has, and never for more callers at
//! once than it means to serve.

use std::{
    net::{Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tracing::warn;

const BACKLOG: i32 = 1024;
/// After an error of `accept`, most likely for want of file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// Listens on IPv6 and IPv4 alike, or on IPv4 alone where the node has no IPv6.
pub(crate) fn dual_stack(port: u16) -> std::io::Result<TcpListener> {
    let listen = |domain, address: SocketAddr| {
        let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        if domain == Domain::IPV6 {
            socket.set_only_v6(false)?;
        }
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        TcpListener::from_std(socket.into())
    };
    listen(Domain::IPV6, (Ipv6Addr::UNSPECIFIED, port).into())
        .or_else(|_| listen(Domain::IPV4, ([0, 0, 0, 0], port).into()))
}

/// Serves every caller in a task of its own, at most `at_once` of them; further ones wait in the kernel's queue.
pub(crate) async fn serve_each<Served>(
    listener: TcpListener,
    at_once: usize,
    serve: impl Fn(TcpStream, SocketAddr) -> Served,
) where
    Served: Future<Output = ()> + Send + 'static,
{
    let slots = Arc::new(Semaphore::new(at_once));
    loop {
        let slot = Arc::clone(&slots).acquire_owned().await.expect("never closed");
        match listener.accept().await {
            Ok((stream, peer)) => {
                let served = serve(stream, peer);
                tokio::spawn(async move {
                    served.await;
                    drop(slot);
                });
            }
            Err(error) => {
                warn!(%error, "A connection could not be accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::{io::AsyncReadExt, sync::mpsc};

    use super::*;

    #[tokio::test]
    async fn both_families_are_heard() {
        let listener = dual_stack(0).expect("a port");
        let port = listener.local_addr().expect("bound").port();
        TcpStream::connect(("127.0.0.1", port)).await.expect("IPv4");
        if listener.local_addr().expect("bound").is_ipv6() {
            TcpStream::connect(("::1", port)).await.expect("IPv6");
        }
    }

    #[tokio::test]
    async fn a_caller_too_many_waits_until_another_one_has_left() {
        let listener = dual_stack(0).expect("a port");
        let address = ("127.0.0.1", listener.local_addr().expect("bound").port());
        let (served_tx, mut served_rx) = mpsc::channel(8);
        let serving = tokio::spawn(serve_each(listener, 1, move |mut stream, peer| {
            let served_tx = served_tx.clone();
            async move {
                served_tx.send(peer.port()).await.expect("the test listens");
                let _until_it_leaves = stream.read(&mut [0]).await;
            }
        }));
        let first = TcpStream::connect(address).await.expect("connected");
        let second = TcpStream::connect(address).await.expect("queued by the kernel");
        let port = |stream: &TcpStream| stream.local_addr().expect("bound").port();
        assert_eq!(served_rx.recv().await, Some(port(&first)));
        assert!(served_rx.try_recv().is_err());
        drop(first);
        assert_eq!(served_rx.recv().await, Some(port(&second)));
        serving.abort();
    }
}
