//! One UDP flow of a consume: datagrams between a stream and the Service, through the Service's own address.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
};

use fairlead_model::{Callee, timers::UDP_FLOW_IDLE};
use fairlead_tunnel::{
    StreamOffered,
    datagrams::{Queue, carry, is_only_lost, receive_into},
};
use fairlead_wire::open::Refusal;
use tokio::{
    net::{UdpSocket, lookup_host},
    time::timeout,
};
use tracing::debug;

use crate::consume::{CONNECT, Destination, refuse, why};

/// Carries one flow until nothing has passed for a while, the laptop ends it, or the cluster says that nobody is there.
pub(crate) async fn flow(offer: StreamOffered, destination: Destination, callee: &Callee) {
    let socket = match timeout(CONNECT, dial(destination)).await {
        Ok(Ok(socket)) => socket,
        Ok(Err(error)) => return refuse(offer, Refusal::Unreachable, why(&error, callee)),
        Err(_) => {
            let reason = format!("the name of {callee} is not resolved in the cluster");
            return refuse(offer, Refusal::Unreachable, reason);
        }
    };
    let stream = match offer.accept() {
        Ok(stream) => stream,
        Err(error) => return debug!(%callee, %error, "The laptop gave up a flow before it began"),
    };
    let queue = Queue::default();
    tokio::select! {
        flowed = carry(stream, &queue, |datagram| send(&socket, datagram), UDP_FLOW_IDLE) => {
            debug!(%callee, ?flowed, "A consumed flow ended");
        }
        error = receive_into(&queue, &socket) => {
            debug!(%callee, %error, "A consumed flow ended: the cluster refuses it");
        }
    }
}

/// Makes a socket that hears only the destination, and of it also that nobody listens there.
async fn dial(destination: Destination) -> io::Result<UdpSocket> {
    let to = match destination {
        Destination::Address(address) => address,
        Destination::AnyOf(addresses) => {
            let first = addresses.into_iter().next();
            first.ok_or_else(|| io::Error::from(io::ErrorKind::AddrNotAvailable))?
        }
        Destination::Name(name, port) => {
            let found = lookup_host((name, port)).await?.next();
            found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no pod is ready"))?
        }
    };
    let any: SocketAddr = match to {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(to).await?;
    // Until it is known that something can be sent, `try_send` sends nothing: the first datagram would be lost.
    socket.writable().await?;
    Ok(socket)
}

fn send(socket: &UdpSocket, datagram: &[u8]) -> io::Result<()> {
    match socket.try_send(datagram) {
        Err(error) if !is_only_lost(&error) => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_datagram_is_sent_at_once() {
        let service = std::net::UdpSocket::bind("127.0.0.1:0").expect("bound");
        service.set_read_timeout(Some(std::time::Duration::from_secs(5))).expect("set");
        let to = Destination::Address(service.local_addr().expect("bound"));
        let socket = dial(to).await.expect("dialled");
        send(&socket, b"a question").expect("sent");
        let mut heard = [0; 16];
        let length = service.recv(&mut heard).expect("it arrives");
        assert_eq!(&heard[..length], b"a question");
    }
}
