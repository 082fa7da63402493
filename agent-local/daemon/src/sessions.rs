//! The sessions of this laptop as they are right now, and where each redirected connection belongs.
//!
//! Plain data behind one lock that is never held while anything is awaited.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{Ipv4Addr, SocketAddrV4},
    sync::Arc,
    time::Instant,
};

use fairlead_model::{
    Callee, Patterns, Phase, Port, Protocol, ServicePort, ServiceRef, SessionId, SessionKind,
    TeamspaceId, timers::LAPTOP_SHOWN,
};
use fairlead_tunnel::CarrierHandle;
use laptop_dns::Zone;
use laptop_ipc::{
    daemon::{self, Laptop, Remapped, Way},
    supervisor::Reached,
    trace,
};
use tokio::sync::watch;

use crate::{
    desired::{DesiredSession, Wish},
    doors::Door,
    early_ends::EarlyEnds,
    granted::Granted,
    names::{self, Consumed},
    session::{Route, Session},
    trace::Own,
};

#[derive(Debug)]
pub(crate) struct Sessions {
    by_id: BTreeMap<SessionId, Session>,
    early_ends: EarlyEnds,
    routes: HashMap<(SocketAddrV4, Protocol), (TeamspaceId, Callee)>,
    addresses: BTreeMap<(TeamspaceId, Callee), Placed>,
    /// The teamspace that commands mean.
    chosen: Option<TeamspaceId>,
    /// What DNS answers.
    zone: Arc<Zone>,
    laptop: Laptop,
    /// Where each destination is really listened on; `None` where the kernel redirects.
    doors: Option<BTreeMap<SocketAddrV4, SocketAddrV4>>,
    /// Where datagrams are really received, for those that go to another port.
    moved_datagrams: HashMap<SocketAddrV4, SocketAddrV4>,
    /// Told after everything that a person could see.
    changes_tx: watch::Sender<()>,
}

/// Where a service is reached.
#[derive(Debug, Clone)]
struct Placed {
    address: Ipv4Addr,
    ports: Vec<ServicePort>,
    short_name: String,
    full_name: String,
}

impl Sessions {
    pub(crate) fn new() -> Self {
        Self {
            by_id: BTreeMap::new(),
            early_ends: EarlyEnds::default(),
            routes: HashMap::new(),
            addresses: BTreeMap::new(),
            chosen: None,
            zone: Arc::default(),
            laptop: Laptop::Unchanged,
            doors: None,
            moved_datagrams: HashMap::new(),
            changes_tx: watch::Sender::new(()),
        }
    }

    /// Returns what changes whenever something that is shown has changed.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changes_tx.subscribe()
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

    /// Returns which ports of a service are others on this laptop.
    fn remapped(&self, address: Ipv4Addr, ports: &[ServicePort]) -> Vec<Remapped> {
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

    /// Adds a session; one that has ended already, by what the hub said earlier, is over at once.
    pub(crate) fn insert(&mut self, session: Session) {
        let id = session.desired.id;
        self.by_id.insert(id, session);
        if let Some((phase, detail)) = self.early_ends.take(id) {
            self.end(id, phase, detail);
        }
        self.changes_tx.send_replace(());
    }

    pub(crate) fn remove(&mut self, id: SessionId) {
        self.by_id.remove(&id);
        self.changes_tx.send_replace(());
    }

    /// Returns the live sessions that the hub did not name among those that live.
    pub(crate) fn missing_from(&self, live: &[SessionId]) -> Vec<SessionId> {
        let is_over = |session: &&Session| {
            !session.may_be_unheard_of() && !live.contains(&session.desired.id)
        };
        self.all_live().filter(is_over).map(|session| session.desired.id).collect()
    }

    /// Changes what is seen of a live session. Says whether anything changed.
    pub(crate) fn observe(&mut self, id: SessionId, phase: Phase, detail: Option<String>) -> bool {
        let Some(session) = self.live_mut(id) else { return false };
        if session.phase == phase && session.detail == detail {
            return false;
        }
        session.phase = phase;
        session.detail = detail;
        self.changes_tx.send_replace(());
        true
    }

    /// Takes note that the command that began a session has heard how it went.
    pub(crate) fn note_heard(&mut self, id: SessionId) {
        if let Some(session) = self.live_mut(id) {
            session.is_heard = true;
            session.before = None;
            session.added.clear();
            self.changes_tx.send_replace(());
        }
    }

    /// Takes a grant for a live session. Says whether names have to follow.
    pub(crate) fn take(&mut self, id: SessionId, granted: Granted) -> bool {
        let is_changed = self.live_mut(id).is_some_and(|session| session.take(granted));
        if is_changed {
            self.changes_tx.send_replace(());
        }
        is_changed
    }

    /// Takes note that a command has changed what a consume is about. What it has added is not proven yet.
    pub(crate) fn note_change(&mut self, id: SessionId, before: Patterns, had: &[Callee]) {
        let Some(session) = self.live_mut(id) else { return };
        session.before.get_or_insert(before);
        let Wish::Consume { services, .. } = &session.desired.wish else { return };
        let had: BTreeSet<_> = had.iter().collect();
        let added = services.iter().map(|(service, _)| service).filter(|s| !had.contains(s));
        session.added = added.cloned().collect();
        if !session.added.is_empty() {
            session.phase = Phase::Preparing;
            session.detail = None;
        }
        self.changes_tx.send_replace(());
    }

    /// Takes note that an agent has accepted a grant on one carrier.
    pub(crate) fn note_accepted(&mut self, id: SessionId, carrier: &CarrierHandle, grant: String) {
        if let Some(session) = self.live_mut(id) {
            session.accept(carrier, grant);
        }
        self.note_shown_everywhere(id);
    }

    /// Takes note of the grant that was accepted on each carrier, if it is the same.
    pub(crate) fn note_shown_everywhere(&mut self, id: SessionId) {
        if let Some(grant) = self.live(id).and_then(Session::accepted_everywhere).cloned() {
            self.note_shown(id, grant);
        }
    }

    /// Takes note that the agent knows a grant, whichever carrier is asked.
    pub(crate) fn note_shown(&mut self, id: SessionId, grant: String) {
        if let Some(session) = self.live_mut(id) {
            session.shown = grant;
            self.changes_tx.send_replace(());
        }
    }

    /// Takes note that a session is about what it was about before a command changed that.
    pub(crate) fn note_put_back(&mut self, id: SessionId) {
        if let Some(session) = self.live_mut(id) {
            session.before = None;
            session.added.clear();
        }
    }

    /// Returns what a consume was granted.
    pub(crate) fn granted(&self, id: SessionId) -> Vec<Callee> {
        match self.live(id).map(|session| &session.desired.wish) {
            Some(Wish::Consume { services, .. }) => {
                services.iter().map(|(service, _)| service.clone()).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Takes note of how the last connection to somebody went.
    pub(crate) fn note(&mut self, id: SessionId, callee: &Callee, refusal: Option<String>) {
        let Some(session) = self.live_mut(id) else { return };
        match refusal {
            Some(why) => session.refusals.insert(callee.clone(), why),
            None => session.refusals.remove(callee),
        };
    }

    /// Returns the services by which a consume can be proven, what was added last before the others: what was granted,
    /// without what leads back to this laptop unless there is nothing else.
    pub(crate) fn provable(&self, id: SessionId) -> Vec<(Callee, Vec<ServicePort>)> {
        let Some(session) = self.live(id) else { return Vec::new() };
        let Wish::Consume { services, .. } = &session.desired.wish else { return Vec::new() };
        let of = session.desired.teamspace.id;
        let here = self.all_live().filter(|other| other.desired.teamspace.id == of);
        let mine: BTreeSet<_> = here
            .filter_map(|other| match &other.desired.wish {
                Wish::Intercept { service, .. } => Some(service),
                Wish::Consume { .. } => None,
            })
            .collect();
        let others =
            services.iter().filter(|(c, _)| !c.service().is_some_and(|s| mine.contains(s)));
        let others: Vec<_> = others.cloned().collect();
        let mut provable = if others.is_empty() { services.clone() } else { others };
        provable.sort_by_key(|(service, _)| !session.added.contains(service));
        provable
    }

    /// Returns a session that is not over.
    pub(crate) fn live(&self, id: SessionId) -> Option<&Session> {
        self.by_id.get(&id).filter(|session| session.is_live())
    }

    pub(crate) fn live_mut(&mut self, id: SessionId) -> Option<&mut Session> {
        self.by_id.get_mut(&id).filter(|session| session.is_live())
    }

    pub(crate) fn all_live(&self) -> impl Iterator<Item = &Session> {
        self.by_id.values().filter(|session| session.is_live())
    }

    /// Closes everything of a session and keeps it only to be shown. Says whether it was live.
    pub(crate) fn end(&mut self, id: SessionId, phase: Phase, detail: Option<String>) -> bool {
        self.by_id.retain(|_, s| s.ended.is_none_or(|at| at.elapsed() < LAPTOP_SHOWN));
        if !self.by_id.contains_key(&id) {
            self.early_ends.note(id, phase, detail);
            return false;
        }
        let Some(session) = self.live_mut(id) else { return false };
        session.phase = phase;
        session.detail = detail;
        session.ended = Some(Instant::now());
        session.task = None;
        session.program = None;
        for carrier in session.carriers() {
            carrier.close();
        }
        session.openers.send_replace(Vec::new());
        session.taken.clear();
        session.further.clear();
        self.changes_tx.send_replace(());
        true
    }

    pub(crate) fn live_of(&self, kind: SessionKind) -> Vec<SessionId> {
        self.all_live().filter(|s| s.kind() == kind).map(|s| s.desired.id).collect()
    }

    /// Lists the consumes, or those of one teamspace.
    pub(crate) fn consumes_of(&self, teamspace: Option<TeamspaceId>) -> Vec<SessionId> {
        let is_of = |s: &&Session| teamspace.is_none_or(|of| of == s.desired.teamspace.id);
        let consumes = self.all_live().filter(|s| s.is_of_everybody());
        consumes.filter(is_of).map(|s| s.desired.id).collect()
    }

    /// Counts the open streams of a session.
    pub(crate) fn streams_of(&self, id: SessionId) -> usize {
        self.live(id).map_or(0, |s| s.carriers().iter().map(CarrierHandle::streams).sum())
    }

    /// Returns what another daemon shall go on with. What a program has ends with this one: its listeners do.
    pub(crate) fn desired(&self) -> Vec<DesiredSession> {
        let kept = self.all_live().filter(|session| session.program.is_none());
        kept.map(|session| session.desired.clone()).collect()
    }

    /// Takes note of the teamspace that was chosen.
    pub(crate) fn choose(&mut self, chosen: Option<TeamspaceId>) {
        self.chosen = chosen;
    }

    /// Returns the teamspace that has the cluster's names.
    fn at_home(&self) -> Option<TeamspaceId> {
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

    /// Returns where a redirected connection leads at this moment.
    pub(crate) fn route(&self, destination: SocketAddrV4) -> Option<Route> {
        self.route_by(destination, Protocol::Tcp)
    }

    /// Returns where datagrams lead at this moment.
    pub(crate) fn route_of_datagrams(&self, destination: SocketAddrV4) -> Option<Route> {
        self.route_by(destination, Protocol::Udp)
    }

    pub(crate) fn zone(&self) -> Arc<Zone> {
        Arc::clone(&self.zone)
    }

    /// Returns the way to the cluster of a service that has the cluster's names here, at whichever port.
    pub(crate) fn route_to_any_port(&self, service: &ServiceRef) -> Option<Route> {
        let (teamspace, callee) = (self.at_home()?, Callee::from(service.clone()));
        let Placed { ports, .. } = self.addresses.get(&(teamspace, callee.clone()))?;
        ports.iter().find_map(|port| self.route_to(teamspace, &callee, *port, false))
    }

    fn route_by(&self, destination: SocketAddrV4, protocol: Protocol) -> Option<Route> {
        let (teamspace, callee) = self.routes.get(&(destination, protocol))?;
        let port = ServicePort { port: Port::new(destination.port())?, protocol };
        self.route_to(*teamspace, callee, port, false)
    }

    /// Returns where a connection to a service leads at this moment, whether or not it has a name here.
    pub(crate) fn route_of(&self, wish: &trace::Wish) -> Option<Route> {
        self.route_to(wish.teamspace, &wish.callee, ServicePort::tcp(wish.port), false)
    }

    /// Returns where programs connect to a service on this laptop, if it has a name here.
    pub(crate) fn entrance_of(&self, wish: &trace::Wish) -> Option<SocketAddrV4> {
        let placed = self.addresses.get(&(wish.teamspace, wish.callee.clone()))?;
        let destination = SocketAddrV4::new(placed.address, wish.port.get());
        let door = self.doors.as_ref().and_then(|doors| doors.get(&destination));
        Some(door.copied().unwrap_or(destination))
    }

    /// Returns this laptop's own intercept of a service.
    pub(crate) fn own_intercept(&self, wish: &trace::Wish) -> Option<Own> {
        self.all_live().filter(|s| s.desired.teamspace.id == wish.teamspace).find_map(|session| {
            let Wish::Intercept { service, ports } = &session.desired.wish else { return None };
            let taken = ports.iter().find(|port| port.service_port == wish.port);
            (wish.callee == service.clone().into()).then(|| Own {
                phase: session.phase,
                detail: session.detail.clone(),
                laptop_port: taken.map(|port| port.laptop_port),
                carriers: session.carriers(),
            })
        })
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

    /// Returns one name and the address it must lead to, as a sample for the proof.
    pub(crate) fn sample_name(&self) -> Option<(String, Ipv4Addr)> {
        let (_, placed) = self.addresses.first_key_value()?;
        Some((placed.full_name.clone(), placed.address))
    }

    pub(crate) fn views(&self) -> Vec<daemon::Session> {
        self.by_id.values().map(|session| self.view(session)).collect()
    }

    pub(crate) fn view_of(&self, id: SessionId) -> Option<daemon::Session> {
        self.by_id.get(&id).map(|session| self.view(session))
    }

    pub(crate) fn phase_of(&self, id: SessionId) -> Option<Phase> {
        self.by_id.get(&id).map(|session| self.proven_phase(session).0)
    }

    fn view(&self, session: &Session) -> daemon::Session {
        let DesiredSession { id, teamspace, wish, .. } = &session.desired;
        let (wanted, services, ports) = match wish {
            Wish::Consume { patterns, services } => {
                let wanted = patterns.iter().map(ToString::to_string).collect();
                let live = services.iter().filter(|_| session.is_live());
                let placed = live.filter_map(|(callee, _)| {
                    let (name, address, ports) = match &session.program {
                        Some(program) => {
                            let (address, ports) = program.places.get(callee)?.clone();
                            (callee.dns_name(), address, ports)
                        }
                        None => {
                            let placed = self.addresses.get(&(teamspace.id, callee.clone()))?;
                            let Placed { address, ports, short_name, .. } = placed.clone();
                            (short_name, address, ports)
                        }
                    };
                    let refusal = session.refusals.get(callee).cloned();
                    let remapped = self.remapped(address, &ports);
                    let callee = callee.clone();
                    Some(daemon::Reached { callee, name, address, ports, remapped, refusal })
                });
                (wanted, placed.collect(), Vec::new())
            }
            Wish::Intercept { service, ports } => {
                (vec![service.to_string()], Vec::new(), ports.clone())
            }
        };
        let (phase, detail) = self.proven_phase(session);
        let handles = session.carriers();
        let carriers = handles.len();
        let paths = handles.iter().filter_map(|carrier| carrier.path().cloned()).collect();
        let (id, kind, teamspace) = (*id, session.kind(), teamspace.clone());
        let failure = session.failure.clone();
        let is_home = match kind {
            SessionKind::Consume if session.is_of_everybody() => {
                self.at_home() == Some(session.desired.teamspace.id)
            }
            // A program has names of its own.
            SessionKind::Consume => true,
            SessionKind::Intercept => false,
        };
        daemon::Session {
            id,
            kind,
            teamspace,
            phase,
            detail,
            failure,
            wanted,
            services,
            is_home,
            of_program: session.program.is_some(),
            ports,
            carriers,
            paths,
        }
    }

    /// A consume is active only while its names lead here, too.
    fn proven_phase(&self, session: &Session) -> (Phase, Option<String>) {
        match (&self.laptop, session.is_of_everybody(), session.phase) {
            (Laptop::Broken { reason }, true, Phase::Active) => {
                (Phase::Preparing, Some(reason.clone()))
            }
            _ => (session.phase, session.detail.clone()),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::SystemTime;

    use fairlead_model::{GrantId, OrgId, UserId};
    use fairlead_wire::{grant, key::Key};
    use laptop_ipc::daemon::Teamspace;

    use super::*;
    use crate::session::Origin;

    fn port(number: u16) -> ServicePort {
        ServicePort::tcp(Port::new(number).expect("not 0"))
    }

    fn session_of(teamspace: TeamspaceId, wish: Wish) -> Session {
        let teamspace = Teamspace { id: teamspace, name: "staging".to_owned() };
        let id = SessionId::generate();
        let desired =
            DesiredSession { id, teamspace, grant: String::new(), wish, may_remap: false };
        Session::new(desired, Origin::Begun)
    }

    pub(crate) fn consume(teamspace: TeamspaceId) -> Session {
        let service = |name: &str| {
            let service: ServiceRef = name.parse().expect("valid");
            (Callee::from(service), vec![port(80)])
        };
        let patterns = Patterns::new(vec!["shop/*".parse().expect("valid")]).expect("valid");
        let services = vec![service("shop/cart"), service("shop/frontend")];
        session_of(teamspace, Wish::Consume { patterns, services })
    }

    pub(crate) fn intercept(teamspace: TeamspaceId) -> Session {
        let ports = vec!["3000:80".parse().expect("valid")];
        session_of(
            teamspace,
            Wish::Intercept { service: "shop/cart".parse().expect("valid"), ports },
        )
    }

    fn place(sessions: &mut Sessions) {
        let reached = sessions.reached();
        let addresses: Vec<_> =
            (0..reached.len()).map(|n| Ipv4Addr::from_bits(0x7f48_0102 + n as u32)).collect();
        sessions.place(reached, &addresses);
    }

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
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
        let (cart, on) = ("127.72.1.2:80".parse().expect("address"), "127.72.1.2:10080");
        let door = Arc::new(Door { on: on.parse().expect("address"), listener });
        let dns = |text: &str| text.parse::<SocketAddrV4>().expect("address");
        let moved_datagrams = [(dns("127.72.1.2:53"), dns("127.72.1.2:10053"))].into();
        sessions.take_doors(Some(&BTreeMap::from([(cart, Arc::clone(&door))])), moved_datagrams);
        assert_eq!((sessions.way(), sessions.sample_door()), (Some(Way::Listeners), Some(door.on)));
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
        assert_eq!(sessions.sample_door(), None, "UDP has none");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
        let frontend: SocketAddrV4 = "127.72.1.3:80".parse().expect("address");
        let door = Arc::new(Door { on: frontend, listener });
        sessions.take_doors(Some(&BTreeMap::from([(frontend, door)])), HashMap::new());
        assert_eq!(sessions.sample_door(), Some(frontend), "though the cart is the first");
    }

    #[test]
    fn what_i_intercept_proves_nothing_unless_there_is_nothing_else() {
        let (teamspace, mut sessions) = (TeamspaceId::generate(), Sessions::new());
        let session = consume(teamspace);
        let id = session.desired.id;
        sessions.insert(session);
        assert_eq!(sessions.provable(id).len(), 2);
        sessions.insert(intercept(teamspace));
        let names: Vec<_> = sessions.provable(id).iter().map(|(s, _)| s.to_string()).collect();
        assert_eq!(names, ["shop/frontend"]);
        let service = "shop/frontend".parse().expect("valid");
        sessions.insert(session_of(teamspace, Wish::Intercept { service, ports: Vec::new() }));
        assert_eq!(sessions.provable(id).len(), 2);
    }

    #[test]
    fn a_session_that_ended_is_shown_with_its_reason_and_reaches_nothing() {
        let mut sessions = Sessions::new();
        let session = consume(TeamspaceId::generate());
        let id = session.desired.id;
        sessions.insert(session);
        assert!(sessions.end(id, Phase::Ended, Some("revoked".to_owned())));
        assert!(!sessions.end(id, Phase::Ended, None), "it ends once");
        let view = sessions.view_of(id).expect("shown");
        assert_eq!((view.phase, view.detail.as_deref()), (Phase::Ended, Some("revoked")));
        assert_eq!(view.services, []);
        assert_eq!((sessions.reached(), sessions.desired()), (vec![], vec![]));
    }

    #[test]
    fn a_consume_is_not_active_while_names_do_not_lead_here() {
        let mut sessions = Sessions::new();
        let mut session = consume(TeamspaceId::generate());
        let id = session.desired.id;
        session.phase = Phase::Active;
        sessions.insert(session);
        assert_eq!(sessions.view_of(id).expect("there").phase, Phase::Active);
        sessions.set_laptop(Laptop::Broken { reason: "flushed".to_owned() });
        assert_eq!(sessions.view_of(id).expect("there").phase, Phase::Preparing);
    }

    #[test]
    fn what_a_command_added_is_proven_before_the_session_is_active_again() {
        let mut sessions = Sessions::new();
        let session = consume(TeamspaceId::generate());
        let (id, patterns) = (session.desired.id, session.patterns().cloned().expect("a consume"));
        sessions.insert(session);
        sessions.observe(id, Phase::Active, None);
        let both: [Callee; 2] =
            ["shop/cart", "shop/frontend"].map(|s| s.parse::<ServiceRef>().expect("valid").into());
        sessions.note_change(id, patterns.clone(), &both);
        assert_eq!(sessions.view_of(id).expect("there").phase, Phase::Active, "nothing is new");

        sessions.note_change(id, patterns, &both[..1]);
        assert_eq!(sessions.view_of(id).expect("there").phase, Phase::Preparing);
        assert_eq!(sessions.provable(id)[0].0, both[1]);
        sessions.note_heard(id);
        assert_eq!(sessions.provable(id)[0].0, both[0], "it is like the others");
    }

    #[test]
    fn a_grant_that_was_overtaken_changes_nothing() {
        let mut sessions = Sessions::new();
        let session = consume(TeamspaceId::generate());
        let id = session.desired.id;
        sessions.insert(session);
        let (first, second) = (granted(&["shop/cart"]), granted(&["shop/cart", "shop/pay"]));
        let late = Granted { jwt: first.jwt.clone(), ..granted(&[]) };
        assert!(sessions.take(id, first));
        assert!(sessions.take(id, second));
        assert!(!sessions.take(id, late));
        let names: Vec<_> = sessions.reached().iter().map(|r| r.callee.to_string()).collect();
        assert_eq!(names, ["shop/cart", "shop/pay"]);
    }

    /// A grant as the hub would mint it at this moment.
    fn granted(services: &[&str]) -> Granted {
        let service = |name: &&str| grant::GrantedService {
            service: name.parse().expect("valid"),
            ports: vec![port(80)],
            pods: Vec::new(),
        };
        let key = Key::generate().expect("made");
        let jwt = grant::GrantSigner::new(&key).sign(&grant::Grant {
            id: GrantId::generate(),
            session: SessionId::generate(),
            teamspace: TeamspaceId::generate(),
            organization: OrgId::generate(),
            user: UserId::generate(),
            device: key.thumbprint(),
            action: SessionKind::Consume,
            services: services.iter().map(service).collect(),
            hosts: Vec::new(),
            policy_version: 1,
            issued_at: SystemTime::now(),
            expires_at: SystemTime::now(),
        });
        Granted::heard(jwt, &[])
    }

    #[test]
    fn what_the_hub_does_not_name_is_over_unless_it_has_just_begun() {
        let mut sessions = Sessions::new();
        let (begun, mut restored) =
            (consume(TeamspaceId::generate()), consume(TeamspaceId::generate()));
        restored.origin = Origin::Restored;
        let (begun_id, restored_id) = (begun.desired.id, restored.desired.id);
        sessions.insert(begun);
        sessions.insert(restored);
        assert_eq!(sessions.missing_from(&[begun_id]), [restored_id]);
        assert_eq!(sessions.missing_from(&[restored_id]), []);
    }
}
