//! Where on this laptop the sessions' names lead: what the footprint should be, and what became of it.
//!
//! Only takes note of addresses, doors and names; `footprint.rs` is who has them made. Which session a connection to one
//! of these places belongs to is said in `routes.rs`.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{Ipv4Addr, SocketAddrV4},
    sync::Arc,
};

use fairlead_model::{Port, Protocol, ServicePort, SessionId, TeamspaceId};
use laptop_dns::Zone;
use laptop_ipc::{
    daemon::{Laptop, Remapped, Way},
    supervisor::Reached,
};

use super::Sessions;
use crate::{
    desired::Wish,
    doors::Door,
    names::{self, Consumed},
};

/// Where a service is reached.
#[derive(Debug, Clone)]
pub(super) struct Placed {
    pub(super) address: Ipv4Addr,
    pub(super) ports: Vec<ServicePort>,
    pub(super) short_name: String,
    pub(super) full_name: String,
}

impl Sessions {
    /// Takes note of the teamspace that was chosen.
    pub(crate) fn choose(&mut self, chosen: Option<TeamspaceId>) {
        self.chosen = chosen;
    }

    /// Returns the teamspace that has the cluster's names.
    pub(super) fn at_home(&self) -> Option<TeamspaceId> {
        let consumes = self.all_live().filter(|session| session.is_of_everybody());
        names::at_home(consumes.map(|session| session.desired.teamspace.id), self.chosen)
    }

    /// Returns what the footprint should be.
    pub(crate) fn reached(&self) -> Vec<Reached> {
        let mut intercepted = BTreeSet::new();
        let mut consumes = Vec::new();
        for session in self.all_live().filter(|session| session.program.is_none()) {
            let teamspace = &session.desired.teamspace;
            match &session.desired.wish {
                Wish::Consume { patterns, services } => {
                    consumes.push(Consumed { teamspace, patterns, services });
                }
                Wish::Intercept { service, .. } => {
                    intercepted.insert((teamspace.id, service.clone()));
                }
            }
        }
        names::reached(&consumes, self.at_home(), &intercepted)
    }

    /// Takes note of where the names lead, in the order of `reached`.
    pub(crate) fn place(&mut self, reached: Vec<Reached>, addresses: &[Ipv4Addr]) {
        self.routes.clear();
        self.addresses.clear();
        let placed = || reached.iter().zip(addresses);
        self.zone = Arc::new(Zone::of(placed().map(|(reached, address)| (reached, *address))));
        for (reached, address) in placed() {
            let Reached { teamspace, callee, ports, .. } = reached.clone();
            for port in &ports {
                let destination = (SocketAddrV4::new(*address, port.port.get()), port.protocol);
                self.routes.insert(destination, (teamspace, callee.clone()));
            }
            let (short_name, full_name) = (reached.short_name(), reached.full_name());
            let placed = Placed { address: *address, ports, short_name, full_name };
            self.addresses.insert((teamspace, callee), placed);
        }
        if self.addresses.is_empty() {
            self.laptop = Laptop::Unchanged;
        }
    }

    pub(crate) fn zone(&self) -> Arc<Zone> {
        Arc::clone(&self.zone)
    }

    /// Returns one name and the address it must lead to, as a sample for the proof.
    pub(crate) fn sample_name(&self) -> Option<(String, Ipv4Addr)> {
        let (_, placed) = self.addresses.first_key_value()?;
        Some((placed.full_name.clone(), placed.address))
    }

    pub(crate) const fn laptop(&self) -> &Laptop {
        &self.laptop
    }

    pub(crate) fn set_laptop(&mut self, laptop: Laptop) {
        self.laptop = laptop;
        self.changes_tx.send_replace(());
    }

    /// Returns how connections reach the daemon, while any service is reached.
    pub(crate) fn way(&self) -> Option<Way> {
        let way = if self.doors.is_some() { Way::Listeners } else { Way::Redirects };
        (!self.addresses.is_empty()).then_some(way)
    }

    /// Takes note of the doors that stand in the place of redirects.
    pub(crate) fn take_doors(
        &mut self,
        doors: Option<&BTreeMap<SocketAddrV4, Arc<Door>>>,
        moved_datagrams: HashMap<SocketAddrV4, SocketAddrV4>,
    ) {
        self.moved_datagrams = moved_datagrams;
        self.doors = doors.map(|doors| doors.iter().map(|(to, door)| (*to, door.on)).collect());
        self.changes_tx.send_replace(());
    }

    /// Returns a door as a sample for the proof; there is none where only UDP is reached.
    pub(crate) fn sample_door(&self) -> Option<SocketAddrV4> {
        self.doors.as_ref()?.values().next().copied()
    }

    /// Returns where applications send datagrams, as a sample for the proof, if any port of UDP is reached.
    pub(crate) fn sample_socket(&self) -> Option<SocketAddrV4> {
        let of_udp = self.routes.keys().filter(|(_, protocol)| *protocol == Protocol::Udp);
        let to = of_udp.map(|(to, _)| *to).min()?;
        Some(self.moved_datagrams.get(&to).copied().unwrap_or(to))
    }

    /// Returns which ports of a service are others on this laptop.
    pub(super) fn remapped(&self, address: Ipv4Addr, ports: &[ServicePort]) -> Vec<Remapped> {
        let other = |port: &ServicePort| {
            let destination = SocketAddrV4::new(address, port.port.get());
            let on = match port.protocol {
                Protocol::Tcp => self.doors.as_ref()?.get(&destination)?,
                Protocol::Udp => self.moved_datagrams.get(&destination)?,
            };
            let laptop_port = Port::new(on.port())?;
            (laptop_port != port.port).then_some(Remapped { port: *port, laptop_port })
        };
        ports.iter().filter_map(other).collect()
    }

    /// Says whether a port that is taken may be another one on this laptop.
    pub(crate) fn may_remap(&self) -> bool {
        self.all_live().any(|session| session.desired.may_remap)
    }

    /// Lets a consume have other ports on this laptop, from now on.
    pub(crate) fn let_remap(&mut self, id: SessionId) {
        if let Some(session) = self.live_mut(id) {
            session.desired.may_remap = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{consume, place},
        *,
    };

    #[test]
    fn a_port_that_is_taken_is_shown_with_the_one_in_its_place() {
        let mut sessions = Sessions::new();
        let mut session = consume(TeamspaceId::generate());
        session.desired.may_remap = true;
        let Wish::Consume { services, .. } = &mut session.desired.wish else { unreachable!() };
        services[0].1.push("53/udp".parse().expect("a port"));
        let id = session.desired.id;
        assert!(!sessions.may_remap() && sessions.way().is_none());
        sessions.insert(session);
        place(&mut sessions);
        assert!(sessions.may_remap() && sessions.way() == Some(Way::Redirects));
        let dns = |text: &str| text.parse::<SocketAddrV4>().expect("address");
        assert_eq!(sessions.sample_socket(), Some(dns("127.72.1.2:53")));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
        let (cart, on) = ("127.72.1.2:80".parse().expect("address"), "127.72.1.2:10080");
        let door = Arc::new(Door { on: on.parse().expect("address"), listener });
        let moved_datagrams = [(dns("127.72.1.2:53"), dns("127.72.1.2:10053"))].into();
        sessions.take_doors(Some(&BTreeMap::from([(cart, Arc::clone(&door))])), moved_datagrams);
        assert_eq!((sessions.way(), sessions.sample_door()), (Some(Way::Listeners), Some(door.on)));
        assert_eq!(sessions.sample_socket(), Some(dns("127.72.1.2:10053")));
        let view = sessions.view_of(id).expect("there");
        let remapped: Vec<_> =
            view.services.iter().map(|service| service.remapped.as_slice()).collect();
        let moved = [("53/udp", "10053"), ("80", "10080")].map(|(port, other)| Remapped {
            port: port.parse().expect("a port"),
            laptop_port: other.parse().expect("a port"),
        });
        assert_eq!(remapped, [&moved[..], &[]]);
    }

    #[test]
    fn the_proof_takes_whichever_door_there_is() {
        let mut sessions = Sessions::new();
        sessions.insert(consume(TeamspaceId::generate()));
        place(&mut sessions);
        sessions.take_doors(Some(&BTreeMap::new()), HashMap::new());
        assert_eq!((sessions.sample_door(), sessions.sample_socket()), (None, None));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
        let frontend: SocketAddrV4 = "127.72.1.3:80".parse().expect("address");
        let door = Arc::new(Door { on: frontend, listener });
        sessions.take_doors(Some(&BTreeMap::from([(frontend, door)])), HashMap::new());
        assert_eq!(sessions.sample_door(), Some(frontend), "though the cart is the first");
    }
}
