//! The UDP sockets of one user: one for each consumed port, so that the socket says whom a datagram is for. A redirect
//! of a connection can be asked where it was going, one of a datagram cannot.
//!
//! The kernel remembers for minutes, and for as long as an application goes on sending, to which port it led it. So a
//! socket stands on the same port whenever it can: after the daemon, the supervisor or the session began again.
//!
//! Where the kernel does not redirect, each socket stands where applications send to, or at another port of the same
//! address where a program has that one and the user agrees.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    io,
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
};

use fairlead_model::Port;
use laptop_footprint::{Taken, ports_instead_of};

/// Below what Linux gives to connections by itself.
const PORTS: std::ops::Range<u32> = 20_000..32_000;
/// Ports that are tried before any will do.
const TRIES: u32 = 64;

#[derive(Debug, thiserror::Error)]
pub(crate) enum DatagramError {
    #[error(transparent)]
    Taken(#[from] Taken),
    #[error("a socket for datagrams could not be made")]
    Socket(#[from] io::Error),
}

/// How datagrams come to a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Redirected,
    /// They are sent to it.
    Sent {
        /// A port that is taken may be another one.
        may_remap: bool,
    },
}

/// The sockets of one user, by what their applications send to.
#[derive(Debug, Default)]
pub(crate) struct DatagramSockets {
    standing: BTreeMap<SocketAddrV4, UdpSocket>,
    /// What the daemon of the moment has.
    passed: HashSet<SocketAddrV4>,
}

impl DatagramSockets {
    /// Adds the sockets that `wanted` lacks, and returns at which port each of them stands. None is closed that stands
    /// where it should.
    pub(crate) fn add(
        &mut self,
        uid: u32,
        wanted: &BTreeSet<SocketAddrV4>,
        way: Way,
    ) -> Result<Vec<(SocketAddrV4, Port)>, DatagramError> {
        let is_sent_to = |to: &SocketAddrV4, socket: &UdpSocket| {
            socket.local_addr().is_ok_and(|at| at.ip() == *to.ip())
        };
        self.standing.retain(|to, socket| (way != Way::Redirected) == is_sent_to(to, socket));
        let standing = &self.standing;
        self.passed.retain(|to| standing.contains_key(to));
        let (mut new, mut taken) = (Vec::new(), Vec::new());
        for to in wanted.iter().filter(|to| !self.standing.contains_key(to)) {
            let bound = match way {
                Way::Redirected => bind(uid, *to),
                Way::Sent { may_remap } => bind_at(*to, may_remap),
            };
            match bound {
                Ok(socket) => new.push((*to, socket)),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => taken.push(*to),
                Err(error) => return Err(error.into()),
            }
        }
        if !taken.is_empty() {
            return Err(Taken::of_datagrams(&taken).into());
        }
        self.standing.extend(new);
        let wanted = self.standing.iter().filter(|(to, _)| wanted.contains(to));
        Ok(wanted.map(|(to, socket)| Ok((*to, port_of(socket)?))).collect::<io::Result<_>>()?)
    }

    /// Closes the sockets for everything else.
    pub(crate) fn keep_only(&mut self, wanted: &BTreeSet<SocketAddrV4>) {
        self.standing.retain(|to, _| wanted.contains(to));
        self.passed.retain(|to| wanted.contains(to));
    }

    /// A daemon that is new has none yet.
    pub(crate) fn begin_passing(&mut self) {
        self.passed.clear();
    }

    /// Returns what the daemon does not have yet.
    pub(crate) fn pass_on(&mut self) -> io::Result<Vec<(SocketAddrV4, UdpSocket)>> {
        let new = self.standing.iter().filter(|(to, _)| !self.passed.contains(to));
        let new: Vec<_> =
            new.map(|(to, socket)| Ok((*to, socket.try_clone()?))).collect::<io::Result<_>>()?;
        self.passed.extend(new.iter().map(|(to, _)| *to));
        Ok(new)
    }

    /// Lists what stands.
    pub(crate) fn standing(&self) -> BTreeSet<SocketAddrV4> {
        self.standing.keys().copied().collect()
    }
}

fn bind_at(to: SocketAddrV4, may_remap: bool) -> io::Result<UdpSocket> {
    let socket = match UdpSocket::bind(to) {
        Err(taken) if taken.kind() == io::ErrorKind::AddrInUse && may_remap => {
            let mut others = ports_instead_of(to.port());
            others.find_map(|port| UdpSocket::bind((*to.ip(), port)).ok()).ok_or(taken)
        }
        bound => bound,
    }?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn bind(uid: u32, to: SocketAddrV4) -> io::Result<UdpSocket> {
    let first = place_of(uid, to);
    let count = PORTS.end - PORTS.start;
    let places = (0..TRIES).map(|step| PORTS.start + (first + step) % count);
    let ports = places.filter_map(|port| u16::try_from(port).ok()).chain([0]);
    let mut refused = io::Error::from(io::ErrorKind::AddrInUse);
    for port in ports {
        match UdpSocket::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(socket) => {
                socket.set_nonblocking(true)?;
                return Ok(socket);
            }
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

/// The same on every run, and seldom that of another.
fn place_of(uid: u32, to: SocketAddrV4) -> u32 {
    let parts = [uid, to.ip().to_bits(), to.port().into()];
    let mixed = parts.into_iter().fold(0x811c_9dc5_u32, |hash, part| {
        part.to_be_bytes()
            .into_iter()
            .fold(hash, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
    });
    mixed % (PORTS.end - PORTS.start)
}

fn port_of(socket: &UdpSocket) -> io::Result<Port> {
    let port = Port::new(socket.local_addr()?.port());
    port.ok_or_else(|| io::Error::other("a bound socket has port 0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(text: &str) -> SocketAddrV4 {
        text.parse().expect("an address")
    }

    #[test]
    fn a_socket_stands_at_the_same_port_again_and_is_passed_once() {
        let mut sockets = DatagramSockets::default();
        let both = BTreeSet::from([to("127.72.9.1:53"), to("127.72.9.2:53")]);
        let before = sockets.add(1000, &both, Way::Redirected).expect("bound");
        assert_eq!(sockets.pass_on().expect("cloned").len(), 2);
        assert!(sockets.pass_on().expect("cloned").is_empty());
        sockets.begin_passing();
        assert_eq!(sockets.pass_on().expect("cloned").len(), 2, "a new daemon has none");

        let mut theirs = DatagramSockets::default();
        let of_another = theirs.add(1001, &both, Way::Redirected).expect("bound");
        assert!(of_another.iter().all(|other| !before.contains(other)), "two users, two sockets");

        assert!(
            sockets
                .add(1000, &BTreeSet::new(), Way::Redirected)
                .expect("nothing is new")
                .is_empty()
        );
        assert_eq!(
            sockets.standing(),
            both,
            "what is no longer wanted stands until the rest has worked"
        );
        sockets.keep_only(&BTreeSet::new());
        assert!(sockets.standing().is_empty() && sockets.pass_on().expect("cloned").is_empty());
        assert_eq!(sockets.add(1000, &both, Way::Redirected).expect("bound"), before);
        assert_eq!(sockets.pass_on().expect("cloned").len(), 2, "they are others than before");
    }

    #[test]
    fn where_nothing_is_redirected_a_socket_stands_where_applications_send_to() {
        let wanted = BTreeSet::from([to("127.72.9.3:41955")]);
        let mut sockets = DatagramSockets::default();
        sockets.add(1000, &wanted, Way::Redirected).expect("bound");
        sockets.pass_on().expect("cloned");
        let at = sockets.add(1000, &wanted, Way::Sent { may_remap: false }).expect("bound");
        assert_eq!(at, [(to("127.72.9.3:41955"), Port::new(41_955).expect("not 0"))]);
        let passed = sockets.pass_on().expect("cloned");
        assert_eq!(passed.len(), 1, "it is another socket than before");
    }

    #[test]
    fn a_port_that_is_taken_is_named_or_another_one_where_the_user_agrees() {
        let (first, second) = (to("127.72.9.4:41956"), to("127.72.9.4:41957"));
        let _theirs = UdpSocket::bind(first).expect("free");
        let wanted = BTreeSet::from([first, second]);
        let mut sockets = DatagramSockets::default();
        let refused = sockets.add(1000, &wanted, Way::Sent { may_remap: false });
        let said = refused.expect_err("taken").to_string();
        assert!(said.contains("41956/udp: ") && !said.contains("41957"), "{said}");
        assert!(sockets.standing().is_empty(), "all of them or none");

        let moved = sockets.add(1000, &wanted, Way::Sent { may_remap: true }).expect("elsewhere");
        let ports: Vec<u16> = moved.iter().map(|(_, port)| port.get()).collect();
        assert_eq!(ports, [51_956, 41_957]);
        let before = sockets.pass_on().expect("cloned").len();
        sockets.add(1000, &wanted, Way::Sent { may_remap: true }).expect("the same");
        assert_eq!((before, sockets.pass_on().expect("cloned").len()), (2, 0), "they stand on");
    }
}
