//! What systemd hears from us: that we serve, and again and again that we still do.
//!
//! The protocol is one datagram per word (sd_notify). Without systemd nobody listens and nothing is sent.

use std::{
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixDatagram},
    },
    sync::Arc,
    thread,
    time::Duration,
};

use tracing::{info, warn};

use crate::{config::Service, machine::Machine};

/// Says that we serve. From then on says so twice in each time that systemd waits, as long as the machine answers.
pub(crate) fn begin(service: Option<Service>, machine: Arc<Machine>) {
    let Some(Service { socket, watchdog }) = service else { return };
    let say = move |word: &str| {
        if let Err(error) = send(&socket, word) {
            warn!("Could not tell systemd: {error}");
        }
    };
    say("READY=1");
    let Some(watchdog) = watchdog else { return };
    info!("Telling the watchdog every {:?}", watchdog / 2);
    thread::spawn(move || {
        loop {
            // Whoever holds the machine for ever keeps this thread from saying that all is well.
            machine.is_responsive();
            say("WATCHDOG=1");
            thread::sleep(watchdog / 2);
        }
    });
}

fn send(socket: &str, word: &str) -> std::io::Result<()> {
    let address = match socket.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    UnixDatagram::unbound()?.send_to_addr(word.as_bytes(), &address).map(drop)
}

/// How long systemd waits, out of what it says in microseconds.
pub(crate) fn watchdog(microseconds: &str) -> Option<Duration> {
    microseconds.parse().ok().filter(|us| *us > 0).map(Duration::from_micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_reaches_a_socket_with_a_path_and_one_without() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("notify");
        let with_path = UnixDatagram::bind(&path).expect("bound");
        send(path.to_str().expect("text"), "READY=1").expect("sent");
        let name = format!("fairlead-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("valid");
        let without = UnixDatagram::bind_addr(&address).expect("bound");
        send(&format!("@{name}"), "WATCHDOG=1").expect("sent");
        for (socket, word) in [(with_path, "READY=1"), (without, "WATCHDOG=1")] {
            let mut heard = [0; 32];
            let length = socket.recv(&mut heard).expect("heard");
            assert_eq!(&heard[..length], word.as_bytes());
        }
        assert_eq!(watchdog("30000000"), Some(Duration::from_secs(30)));
        assert_eq!((watchdog("0"), watchdog("soon")), (None, None));
    }
}
