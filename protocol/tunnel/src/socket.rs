//! Options of every TCP socket that carries a link, a carrier, or a developer's connection.

use std::{io, time::Duration};

use fairlead_model::timers::{CARRIER_PING, TCP_USER_TIMEOUT};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

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
        // Worth a factor of thirty on a lossy link, and forbidden or missing on many machines: then the default stays.
        if socket.set_tcp_congestion(b"bbr").is_err() {
            tracing::trace!("BBR is not available for this socket");
        }
    }
    Ok(())
}

/// Makes the coming close of a socket an abort: its peer sees a reset and not an end.
pub fn abort_on_close(tcp: &TcpStream) {
    if let Err(error) = SockRef::from(tcp).set_linger(Some(Duration::ZERO)) {
        tracing::debug!(%error, "Could not make the close of a socket an abort");
    }
}
