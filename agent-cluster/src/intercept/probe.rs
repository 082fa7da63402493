//! A connection of our own through the whole path of an intercept: ClusterIP, kube-proxy, a replica's listener, the
//! carrier, the laptop's port. *Active* is said only after one has passed.
//!
//! The proof is kept where a connection arrives: the replica whose listener took it and whose laptop accepted it
//! (`hold.rs`). Whose connection it was does not matter for that, so a probe needs no message of its own; the writer
//! only makes sure that one is made. Probes come from agent pods and from ports of their own, so that the listener
//! can tell the laptop, which then opens and closes its port without showing it to the developer. Where the network
//! rewrites a pod's connection to itself, the mark is lost, and the developer's program sees one empty connection.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::{net::TcpSocket, time::timeout};

const SOURCE_PORTS: std::ops::RangeInclusive<u16> = 30_000..=30_999;
const CONNECT: Duration = Duration::from_secs(1);
/// The laptop's answer is not visible here; the connection is held for as long as opening there may take.
const HELD: Duration = fairlead_model::timers::INTERCEPT_CONNECT;

/// Says whether a connection from `peer` is a probe of one of our replicas.
pub(crate) fn is_probe(peer: SocketAddr, agents: &BTreeSet<IpAddr>) -> bool {
    SOURCE_PORTS.contains(&peer.port()) && agents.contains(&peer.ip().to_canonical())
}

/// Connects once to `service`; whether it reached an agent, and the laptop behind it, is seen there.
pub(crate) async fn knock(service: SocketAddr) {
    let Ok(socket) = marked_socket(service) else { return };
    if let Ok(Ok(stream)) = timeout(CONNECT, socket.connect(service)).await {
        let mut nothing = [0; 1];
        let _closed_by_the_listener = timeout(HELD, stream.peek(&mut nothing)).await;
    }
}

fn marked_socket(service: SocketAddr) -> std::io::Result<TcpSocket> {
    let socket = Socket::new(Domain::for_address(service), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    // Reset instead of TIME_WAIT: the next probe may use the same port at once.
    socket.set_linger(Some(Duration::ZERO))?;
    let unspecified: IpAddr = if service.is_ipv6() { [0; 16].into() } else { [0; 4].into() };
    let port = rand::random_range(SOURCE_PORTS);
    socket.bind(&SocketAddr::new(unspecified, port).into())?;
    Ok(TcpSocket::from_std_stream(socket.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_probe_is_recognised_by_where_it_comes_from() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let probing = tokio::spawn(knock(listener.local_addr().expect("bound")));
        let (_, peer) = listener.accept().await.expect("the probe");
        assert!(is_probe(peer, &BTreeSet::from([peer.ip()])));
        assert!(!is_probe(peer, &BTreeSet::new()), "an unknown pod");
        assert!(!is_probe(SocketAddr::new(peer.ip(), 40_000), &BTreeSet::from([peer.ip()])));
        probing.abort();
    }
}
