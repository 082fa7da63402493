//! To which session a connection belongs at this moment: by the place where it came in, by the service it means, or by
//! the listener of a program.
//!
//! What a route is used for is in `consume.rs`, `datagrams.rs` and `listeners.rs`.

use std::net::SocketAddrV4;

use fairlead_model::{Callee, Port, Protocol, ServicePort, ServiceRef, TeamspaceId};
use laptop_ipc::trace;

use super::{Sessions, places::Placed};
use crate::{
    desired::Wish,
    session::{Route, Session},
    trace::Own,
};

impl Sessions {
    /// Returns where a redirected connection leads at this moment.
    pub(crate) fn route(&self, destination: SocketAddrV4) -> Option<Route> {
        self.route_by(destination, Protocol::Tcp)
    }

    /// Returns where datagrams lead at this moment.
    pub(crate) fn route_of_datagrams(&self, destination: SocketAddrV4) -> Option<Route> {
        self.route_by(destination, Protocol::Udp)
    }

    fn route_by(&self, destination: SocketAddrV4, protocol: Protocol) -> Option<Route> {
        let (teamspace, callee) = self.routes.get(&(destination, protocol))?;
        let port = ServicePort { port: Port::new(destination.port())?, protocol };
        self.route_to(*teamspace, callee, port, false)
    }

    /// Returns the way to the cluster of a service that has the cluster's names here, at whichever port.
    pub(crate) fn route_to_any_port(&self, service: &ServiceRef) -> Option<Route> {
        let (teamspace, callee) = (self.at_home()?, Callee::from(service.clone()));
        let Placed { ports, .. } = self.addresses.get(&(teamspace, callee.clone()))?;
        ports.iter().find_map(|port| self.route_to(teamspace, &callee, *port, false))
    }

    /// Returns where a connection to a service leads at this moment, whether or not it has a name here.
    pub(crate) fn route_of(&self, wish: &trace::Wish) -> Option<Route> {
        self.route_to(wish.teamspace, &wish.callee, wish.port, false)
    }

    /// Returns where a connection to a listener of programs leads at this moment.
    pub(crate) fn route_of_programs(
        &self,
        teamspace: TeamspaceId,
        callee: &Callee,
        port: ServicePort,
    ) -> Option<Route> {
        self.route_to(teamspace, callee, port, true)
    }

    /// Finds the session that grants this port: of several the youngest.
    fn route_to(
        &self,
        teamspace: TeamspaceId,
        callee: &Callee,
        port: ServicePort,
        is_of_programs: bool,
    ) -> Option<Route> {
        let grants = |session: &&Session| match &session.desired.wish {
            Wish::Consume { services, .. } => {
                session.program.is_some() == is_of_programs
                    && session.desired.teamspace.id == teamspace
                    && services.iter().any(|(c, ports)| c == callee && ports.contains(&port))
            }
            Wish::Intercept { .. } => false,
        };
        let session = self.all_live().filter(grants).max_by_key(|s| s.began)?;
        Some(Route {
            session: session.desired.id,
            callee: callee.clone(),
            port,
            openers: session.openers.subscribe(),
        })
    }

    /// Returns where programs connect to a service on this laptop, if it has a name here.
    pub(crate) fn entrance_of(&self, wish: &trace::Wish) -> Option<SocketAddrV4> {
        let placed = self.addresses.get(&(wish.teamspace, wish.callee.clone()))?;
        let destination = SocketAddrV4::new(placed.address, wish.port.port.get());
        let elsewhere = match wish.port.protocol {
            Protocol::Tcp => self.doors.as_ref().and_then(|doors| doors.get(&destination)),
            Protocol::Udp => self.moved_datagrams.get(&destination),
        };
        Some(elsewhere.copied().unwrap_or(destination))
    }

    /// Returns this laptop's own intercept of a service.
    pub(crate) fn own_intercept(&self, wish: &trace::Wish) -> Option<Own> {
        self.all_live().filter(|s| s.desired.teamspace.id == wish.teamspace).find_map(|session| {
            let Wish::Intercept { service, ports } = &session.desired.wish else { return None };
            let taken = ports.iter().find(|port| ServicePort::tcp(port.service_port) == wish.port);
            (wish.callee == service.clone().into()).then(|| Own {
                phase: session.phase,
                detail: session.detail.clone(),
                laptop_port: taken.map(|port| port.laptop_port),
                carriers: session.carriers(),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{consume, intercept, place};
    use super::*;

    #[test]
    fn each_granted_port_has_a_route_and_an_intercept_takes_it_away() {
        let (teamspace, mut sessions) = (TeamspaceId::generate(), Sessions::new());
        sessions.insert(consume(teamspace));
        place(&mut sessions);
        let cart: SocketAddrV4 = "127.72.1.2:80".parse().expect("address");
        assert_eq!(sessions.route(cart).expect("routed").callee.to_string(), "shop/cart");
        assert!(sessions.route("127.72.1.2:81".parse().expect("address")).is_none());

        sessions.insert(intercept(teamspace));
        place(&mut sessions);
        assert_eq!(sessions.route(cart).expect("routed").callee.to_string(), "shop/frontend");
        assert_eq!(sessions.views().iter().map(|view| view.services.len()).sum::<usize>(), 1);
    }
}
