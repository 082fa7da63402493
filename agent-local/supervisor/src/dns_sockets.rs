//! The sockets of the laptop's DNS server, at the one address that resolvers know. Names are the machine's and not a
//! user's, so the daemon of one user answers: of whoever came first, for as long as they reach anything.

use std::{
    io,
    net::{SocketAddrV4, TcpListener, UdpSocket},
};

use laptop_footprint::DNS_SERVER;

const PORT: u16 = 53;

/// Who answers, and on what.
#[derive(Debug, Default)]
pub(crate) struct DnsSockets {
    held: Option<Held>,
}

#[derive(Debug)]
struct Held {
    uid: u32,
    /// The attachment of the daemon that has them.
    passed_to: Option<u64>,
    udp: UdpSocket,
    tcp: TcpListener,
}

/// What a daemon is given of it.
#[derive(Debug)]
pub(crate) enum Dns {
    /// It has the sockets.
    Held,
    Passed(UdpSocket, TcpListener),
    Refused(String),
}

impl DnsSockets {
    /// Has the daemon of `uid` answer, if nobody else does.
    pub(crate) fn give(&mut self, uid: u32, attachment: u64) -> Dns {
        self.give_at(SocketAddrV4::new(DNS_SERVER, PORT), uid, attachment)
    }

    fn give_at(&mut self, at: SocketAddrV4, uid: u32, attachment: u64) -> Dns {
        if self.held.is_none() {
            match Held::bind(at, uid) {
                Ok(held) => self.held = Some(held),
                Err(error) => {
                    return Dns::Refused(format!("{at} cannot be listened on: {error}"));
                }
            }
        }
        match &mut self.held {
            Some(held) if held.uid != uid => {
                Dns::Refused("the daemon of another user answers DNS on this machine".to_owned())
            }
            Some(held) if held.passed_to == Some(attachment) => Dns::Held,
            Some(held) => match (held.udp.try_clone(), held.tcp.try_clone()) {
                (Ok(udp), Ok(tcp)) => {
                    held.passed_to = Some(attachment);
                    Dns::Passed(udp, tcp)
                }
                (Err(error), _) | (_, Err(error)) => Dns::Refused(error.to_string()),
            },
            None => unreachable!("bound above"),
        }
    }

    /// Closes the sockets of a user who reaches nothing any more.
    pub(crate) fn take_from(&mut self, uid: u32) {
        if self.is_with(uid) {
            self.held = None;
        }
    }

    /// Says whether anybody's daemon answers.
    pub(crate) const fn are_held(&self) -> bool {
        self.held.is_some()
    }

    pub(crate) fn is_with(&self, uid: u32) -> bool {
        self.held.as_ref().is_some_and(|held| held.uid == uid)
    }
}

impl Held {
    fn bind(at: SocketAddrV4, uid: u32) -> io::Result<Self> {
        let (udp, tcp) = (UdpSocket::bind(at)?, TcpListener::bind(at)?);
        udp.set_nonblocking(true)?;
        tcp.set_nonblocking(true)?;
        Ok(Self { uid, passed_to: None, udp, tcp })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_daemon_answers_until_it_reaches_nothing_any_more() {
        let at = "127.72.0.77:41953".parse().expect("an address");
        let mut sockets = DnsSockets::default();
        assert!(matches!(sockets.give_at(at, 1000, 1), Dns::Passed(..)));
        assert!(matches!(sockets.give_at(at, 1000, 1), Dns::Held));
        assert!(matches!(sockets.give_at(at, 1001, 2), Dns::Refused(_)));
        assert!(matches!(sockets.give_at(at, 1000, 3), Dns::Passed(..)), "a daemon that is new");
        sockets.take_from(1001);
        assert!(sockets.is_with(1000));
        sockets.take_from(1000);
        assert!(matches!(sockets.give_at(at, 1001, 2), Dns::Passed(..)));
    }

    #[test]
    fn an_address_that_somebody_has_is_named() {
        let at = "127.72.0.78:41953".parse().expect("an address");
        let _theirs = UdpSocket::bind(at).expect("free");
        let Dns::Refused(why) = DnsSockets::default().give_at(at, 1000, 1) else { panic!("given") };
        assert!(why.contains("127.72.0.78"), "{why}");
    }
}
