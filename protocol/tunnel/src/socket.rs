//! Options of every TCP socket that carries a link, a carrier, or a developer's connection.

use std::{io, net::SocketAddr, os::fd::AsFd, time::Duration};

use fairlead_model::timers::{CARRIER_PING, TCP_USER_TIMEOUT};
use rustix::io::Errno;
use socket2::{Domain, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::TcpStream;

/// An operator wants to know, once.
#[cfg(target_os = "linux")]
static TOLD: std::sync::Once = std::sync::Once::new();

/// Sets what a socket towards a hub or a relay needs: nothing waits for a full segment, a peer that is gone is noticed
/// while data is in flight (user timeout) and while none is (keepalive).
pub fn tune_for_wan(tcp: &TcpStream) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    let socket = SockRef::from(tcp);
    socket.set_tcp_keepalive(
        &TcpKeepalive::new().with_time(CARRIER_PING).with_interval(Duration::from_secs(5)),
    )?;
    #[cfg(target_os = "linux")]
    {
        socket.set_tcp_user_timeout(Some(TCP_USER_TIMEOUT))?;
        let in_use = prefer_bbr(&socket);
        TOLD.call_once(|| {
            tracing::info!(
                algorithm = in_use,
                "Congestion control of connections to and from the relay"
            );
        });
    }
    Ok(())
}

/// Asks for BBR and returns what is in use: it is worth a factor of thirty on a lossy link, and forbidden or missing on
/// many machines, where the default stays.
#[cfg(target_os = "linux")]
fn prefer_bbr(socket: &SockRef<'_>) -> String {
    let refused = socket.set_tcp_congestion(b"bbr").err();
    let in_use = socket.tcp_congestion().unwrap_or_default();
    let in_use = String::from_utf8_lossy(&in_use).trim_end_matches('\0').to_owned();
    tracing::trace!(?refused, in_use, "Congestion control of a socket");
    in_use
}

/// Connects to a service. One on the same node has taken the connection by the time the call returns, and says so when
/// it is asked once more; then nothing is waited for: no turn of the runtime, and no timer of whoever bounds this.
pub async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), None)?;
    let ask = || socket.connect(&address.into());
    let is = |error: &io::Error, errno| Errno::from_io_error(error) == Some(errno);
    match ask().or_else(|error| if is(&error, Errno::INPROGRESS) { ask() } else { Err(error) }) {
        Ok(()) => TcpStream::from_std(socket.into()),
        Err(error) if is(&error, Errno::ALREADY) => {
            let tcp = TcpStream::from_std(socket.into())?;
            tcp.writable().await?;
            tcp.take_error()?.map_or(Ok(tcp), Err)
        }
        Err(error) => Err(error),
    }
}

/// Makes the coming close of a socket an abort: its peer sees a reset and not an end.
pub fn abort_on_close(tcp: &impl AsFd) {
    if let Err(error) = SockRef::from(tcp).set_linger(Some(Duration::ZERO)) {
        tracing::debug!(%error, "Could not make the close of a socket an abort");
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::{fs::read_to_string, pin::pin};

    use futures_util::FutureExt as _;
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_socket_has_bbr_where_the_machine_offers_it_and_its_default_elsewhere() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let tcp =
            TcpStream::connect(listener.local_addr().expect("bound")).await.expect("connected");
        tune_for_wan(&tcp).expect("set");
        let sysctl = |name| read_to_string(format!("/proc/sys/net/ipv4/{name}")).expect("readable");
        let (allowed, default) =
            (sysctl("tcp_allowed_congestion_control"), sysctl("tcp_congestion_control"));
        let in_use = prefer_bbr(&SockRef::from(&tcp));
        let is_allowed = allowed.split_whitespace().any(|name| name == "bbr");
        // Root may have it although it is not allowed to everybody.
        let is_default = !is_allowed && in_use == default.trim();
        assert!(in_use == "bbr" || is_default, "{in_use}, of {allowed}");
    }

    #[tokio::test]
    async fn a_service_is_connected_to_at_once_or_later_or_refuses() {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a free port");
        let address = listener.local_addr().expect("bound").as_socket().expect("of IP");
        // Room for one that nobody has accepted.
        listener.listen(0).expect("listens");
        let at_once = connect(address).now_or_never().expect("nothing to wait for");
        at_once.expect("connected");

        let mut later = pin!(connect(address));
        assert!(later.as_mut().now_or_never().is_none(), "there is no room");
        listener.accept().expect("the first");
        later.await.expect("the kernel asks again");
        drop(listener);
        let refused = connect(address).await.expect_err("nobody listens").kind();
        assert_eq!(refused, io::ErrorKind::ConnectionRefused);
    }

    #[tokio::test]
    async fn a_socket_waits_for_no_full_segment_and_gives_a_silent_peer_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let tcp =
            TcpStream::connect(listener.local_addr().expect("bound")).await.expect("connected");
        tune_for_wan(&tcp).expect("set");
        let socket = SockRef::from(&tcp);
        assert!(tcp.nodelay().expect("known") && socket.keepalive().expect("known"));
        assert_eq!(socket.tcp_user_timeout().expect("known"), Some(TCP_USER_TIMEOUT));
    }
}
