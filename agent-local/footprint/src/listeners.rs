//! Where connections cannot be redirected: one listener for each port of each service, at the service's own address.
//!
//! A port can be taken by a program of the developer, on that address or on all at once. Whoever has it is named before
//! anything is changed; where the user agrees, the service gets another port of the same address. Listeners end with
//! the process, so none is ever residue.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, io,
    net::{SocketAddrV4, TcpListener},
};

use fairlead_model::Protocol;
use laptop_ipc::sockets::{Holder, holder_of, receiver_of, user_name};

/// First choice for a port that is taken: 80 becomes 10080, and is that again next time.
const REMAP_STEP: u16 = 10_000;
/// More of them in one message are not read.
const NAMED_MAX: usize = 10;

/// A user's service port.
type Key = (u32, SocketAddrV4);

/// The listeners of all users.
#[derive(Debug, Default)]
pub struct Listeners {
    held: BTreeMap<Key, Held>,
    count: u64,
}

#[derive(Debug)]
struct Held {
    /// Tells it from another one that stood for the same port before.
    number: u64,
    on: SocketAddrV4,
    listener: TcpListener,
}

/// A listener as it is given to its user's daemon.
#[derive(Debug)]
pub struct Given<'a> {
    pub number: u64,
    pub destination: SocketAddrV4,
    pub on: SocketAddrV4,
    pub listener: &'a TcpListener,
}

/// Ports that others have.
#[derive(Debug)]
pub struct Taken(Vec<(SocketAddrV4, Protocol, By)>);

#[derive(Debug)]
enum By {
    Holder(Box<Holder>),
    /// Fairlead itself has it, for another user.
    AnotherUser(Option<u32>),
    /// Whoever it was is gone, or cannot be seen.
    Somebody,
}

impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("another program has a port that is needed (nothing was changed):")?;
        for (wanted, protocol, by) in self.0.iter().take(NAMED_MAX) {
            write!(f, "\n  {}", wanted.port())?;
            if *protocol == Protocol::Udp {
                f.write_str("/udp")?;
            }
            match by {
                By::Holder(holder) => write!(f, ": {holder}")?,
                By::AnotherUser(Some(uid)) => {
                    write!(f, ": Fairlead for user {} on {wanted}", user_name(*uid))?;
                }
                By::AnotherUser(None) => write!(f, ": Fairlead for another user on {wanted}")?,
                By::Somebody => f.write_str(": a program that cannot be seen")?,
            }
        }
        let more = self.0.len().saturating_sub(NAMED_MAX);
        if more > 0 { write!(f, "\n  and {more} more") } else { Ok(()) }
    }
}

impl std::error::Error for Taken {}

impl Taken {
    /// Names who has these ports of UDP.
    #[must_use]
    pub fn of_datagrams(ports: &[SocketAddrV4]) -> Self {
        let by = |port: &SocketAddrV4| match receiver_of(*port) {
            Some(Holder { process: Some(process), .. }) if process.pid == std::process::id() => {
                By::AnotherUser(None)
            }
            Some(holder) => By::Holder(Box::new(holder)),
            None => By::Somebody,
        };
        Self(ports.iter().map(|port| (*port, Protocol::Udp, by(port))).collect())
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error(transparent)]
    Taken(#[from] Taken),
    #[error("could not listen on {address}")]
    Listen { address: SocketAddrV4, source: io::Error },
}

impl Listeners {
    /// Makes the listeners be exactly these, all of them or none. A user in `may_remap` takes other ports, too.
    pub(crate) fn follow(
        &mut self,
        wanted: &BTreeSet<Key>,
        may_remap: &BTreeSet<u32>,
    ) -> Result<(), ListenError> {
        let (mut new, mut taken) = (Vec::new(), Vec::new());
        for key @ (uid, destination) in wanted {
            if self.held.contains_key(key) {
                continue;
            }
            match listen(*destination, may_remap.contains(uid)) {
                Ok(listener) => new.push((*key, listener)),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                    taken.push((*destination, Protocol::Tcp, self.who_has(*destination)));
                }
                Err(source) => return Err(ListenError::Listen { address: *destination, source }),
            }
        }
        if !taken.is_empty() {
            return Err(Taken(taken).into());
        }
        self.held.retain(|key, _| wanted.contains(key));
        for (key, (listener, on)) in new {
            self.count += 1;
            self.held.insert(key, Held { number: self.count, on, listener });
        }
        Ok(())
    }

    /// Returns a user's listeners.
    pub(crate) fn of(&self, uid: u32) -> impl Iterator<Item = Given<'_>> {
        let theirs = self.held.iter().filter(move |((owner, _), _)| *owner == uid);
        theirs.map(|((_, destination), held)| Given {
            number: held.number,
            destination: *destination,
            on: held.on,
            listener: &held.listener,
        })
    }

    fn who_has(&self, address: SocketAddrV4) -> By {
        let ours = self.held.iter().find(|(_, held)| held.on == address);
        match (ours, holder_of(address)) {
            (Some(((uid, _), _)), _) => By::AnotherUser(Some(*uid)),
            (None, Some(holder)) => By::Holder(Box::new(holder)),
            (None, None) => By::Somebody,
        }
    }
}

fn listen(destination: SocketAddrV4, may_remap: bool) -> io::Result<(TcpListener, SocketAddrV4)> {
    let at = |port| {
        let on = SocketAddrV4::new(*destination.ip(), port);
        TcpListener::bind(on).map(|listener| (listener, on))
    };
    let taken = match at(destination.port()) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && may_remap => error,
        listening => return listening,
    };
    ports_instead_of(destination.port()).find_map(|port| at(port).ok()).ok_or(taken)
}

/// Returns which other ports will do for one that is taken, the best first.
pub fn ports_instead_of(port: u16) -> impl Iterator<Item = u16> {
    (1..=6_u16).filter_map(move |n| port.checked_add(n * REMAP_STEP))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const ADA: u32 = 7001;
    const GRACE: u32 = 7002;

    /// A port that is free on every address at this moment, and the one in its place, too.
    fn free_port(from: u16) -> u16 {
        let is_free = |port| TcpListener::bind(("0.0.0.0", port)).is_ok();
        (from..from + 500)
            .find(|port| is_free(*port) && is_free(port + REMAP_STEP))
            .expect("one is free")
    }

    fn on(last: u8, port: u16) -> SocketAddrV4 {
        SocketAddrV4::new(Ipv4Addr::new(127, 72, 9, last), port)
    }

    fn numbers(listeners: &Listeners, uid: u32) -> Vec<u64> {
        listeners.of(uid).map(|given| given.number).collect()
    }

    #[test]
    fn what_stays_wanted_keeps_its_listener_and_the_rest_goes() {
        let port = free_port(21_000);
        let (mut listeners, nobody) = (Listeners::default(), BTreeSet::new());
        let both = BTreeSet::from([(ADA, on(1, port)), (ADA, on(2, port))]);
        listeners.follow(&both, &nobody).expect("free");
        assert_eq!(numbers(&listeners, ADA), [1, 2]);
        listeners.follow(&BTreeSet::from([(ADA, on(2, port))]), &nobody).expect("held");
        assert_eq!(numbers(&listeners, ADA), [2]);
        TcpListener::bind(on(1, port)).expect("free again");
        listeners.follow(&BTreeSet::new(), &nobody).expect("nothing wanted");
        assert_eq!(numbers(&listeners, ADA), Vec::<u64>::new());
    }

    #[test]
    fn whoever_has_a_port_is_named_and_nothing_is_changed() {
        let theirs = TcpListener::bind("0.0.0.0:0").expect("bound");
        let port = theirs.local_addr().expect("bound").port();
        let (mut listeners, nobody) = (Listeners::default(), BTreeSet::new());
        let free = (ADA, on(3, free_port(21_500)));
        let error = listeners.follow(&BTreeSet::from([free, (ADA, on(3, port))]), &nobody);
        let said = error.expect_err("taken").to_string();
        assert!(said.contains(&format!("{port}: ")), "{said}");
        assert!(said.contains(&format!("pid {}", std::process::id())), "{said}");
        assert!(said.contains(&format!("on 0.0.0.0:{port}")), "{said}");
        assert!(numbers(&listeners, ADA).is_empty());
    }

    #[test]
    fn where_the_user_agrees_a_taken_port_becomes_another_one() {
        let port = free_port(22_000);
        let _theirs = TcpListener::bind(("0.0.0.0", port)).expect("bound");
        let mut listeners = Listeners::default();
        let wanted = BTreeSet::from([(ADA, on(4, port))]);
        listeners.follow(&wanted, &BTreeSet::from([ADA])).expect("remapped");
        let given: Vec<_> = listeners.of(ADA).map(|given| (given.destination, given.on)).collect();
        assert_eq!(given, [(on(4, port), on(4, port + REMAP_STEP))]);
    }

    #[test]
    fn a_port_that_another_user_has_is_said_to_be_ours() {
        let port = free_port(22_500);
        let (mut listeners, nobody) = (Listeners::default(), BTreeSet::new());
        let ada = BTreeSet::from([(ADA, on(5, port))]);
        listeners.follow(&ada, &nobody).expect("free");
        let both = BTreeSet::from([(ADA, on(5, port)), (GRACE, on(5, port))]);
        let said = listeners.follow(&both, &nobody).expect_err("taken").to_string();
        assert!(said.contains("Fairlead for user 7001"), "{said}");
        assert_eq!(numbers(&listeners, ADA), [1], "hers is untouched");
    }
}
