//! Connections as they arrive, before the runtime knows of them: whoever takes one reads first what came with it
//! (`Untaken::accepted`).

use std::{
    io,
    net::{SocketAddr, TcpListener, TcpStream},
};

use rustix::net::{SocketFlags, acceptfrom_with};
use tokio::io::{Interest, unix::AsyncFd};

#[derive(Debug)]
pub(crate) struct Arrivals(AsyncFd<TcpListener>);

impl Arrivals {
    /// Takes them at a listener that waits for nothing.
    #[expect(unsafe_code, reason = "whoever registers a descriptor vouches that it stays open")]
    pub(crate) fn at(listener: TcpListener) -> io::Result<Self> {
        // SAFETY: a listener has one descriptor for as long as it lives, and lives as long as what it is given to, from
        // which nobody takes it.
        Ok(Self(unsafe { AsyncFd::register_with_interest(listener, Interest::READABLE) }?))
    }

    /// Waits for the next one, and returns who came. Its socket waits for nothing.
    pub(crate) async fn next(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let accept = |listener: &TcpListener| {
            let (tcp, from) =
                acceptfrom_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)?;
            Ok((tcp, from.ok_or(io::ErrorKind::NotConnected)?))
        };
        let (tcp, from) = self.0.async_io(Interest::READABLE, accept).await?;
        Ok((TcpStream::from(tcp), SocketAddr::try_from(from)?))
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Read as _, time::Duration};

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn each_connection_arrives_once_with_who_came_and_waits_for_nothing() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("set");
        let address = listener.local_addr().expect("bound");
        let arrivals = Arrivals::at(listener).expect("registered");
        let comers = [0; 3].map(|_| TcpStream::connect(address).expect("connected"));
        for comer in &comers {
            let (mut tcp, from) = arrivals.next().await.expect("arrives");
            assert_eq!(from, comer.local_addr().expect("connected"));
            let read = tcp.read(&mut [0]).map_err(|error| error.kind());
            assert_eq!(read, Err(io::ErrorKind::WouldBlock));
        }
        timeout(Duration::from_millis(50), arrivals.next()).await.expect_err("nobody else came");
    }
}
