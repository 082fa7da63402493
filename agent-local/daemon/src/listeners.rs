//! Listeners of our own, one per service and port, and sockets for ports of UDP, for programs whose names lead here without a redirect.
//!
//! Programs that run at the same time share them. A port below the first one that anybody may take, and one that another
//! program has on all addresses, cannot be had: the program does not start, unless other ports will do.

use std::{
    collections::HashMap,
    io,
    net::{
        Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener as StdListener, TcpStream,
        UdpSocket as StdUdpSocket,
    },
    os::fd::AsFd,
    path::Path,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use fairlead_model::{Callee, Protocol, ServicePort, TeamspaceId};
use laptop_footprint::{AddressError, Addresses};
use laptop_ipc::{Failure, FailureKind, sockets::user_of_connection, supervisor::PORTS_MAX};
use nix::unistd::Uid;
use socket2::SockRef;
use tokio::{net::UdpSocket, sync::Semaphore, task::JoinHandle, time::sleep};
use tracing::warn;

use crate::{
    arrivals::Arrivals,
    connections,
    datagrams::{self, Flows},
    keeper::Keeper,
    session::Route,
};

/// A laptop has fewer connections; more wait in the listeners' queues.
const CONNECTIONS_MAX: usize = 4096;
/// Names of that many ports are read by somebody.
const TROUBLES_SHOWN: usize = 5;

type Key = (TeamspaceId, Callee, ServicePort);
/// Who is called, the address and its listeners.
pub(crate) type Placed = (Callee, Ipv4Addr, Vec<Arc<Listening>>);

/// Where services are for the programs of this user.
#[derive(Debug)]
pub(crate) struct Places {
    addresses: Mutex<Addresses>,
    listening: Mutex<HashMap<Key, Weak<Listening>>>,
    closing: Closing,
    room: Arc<Semaphore>,
    flows: Flows,
}

/// One listener, or the socket of a port of UDP; it closes when nobody holds it.
#[derive(Debug)]
pub(crate) struct Listening {
    /// The service's port; the listener's own may be another one.
    pub(crate) port: ServicePort,
    pub(crate) address: SocketAddrV4,
    task: Option<JoinHandle<()>>,
    closing: Closing,
}

/// Tasks that were aborted and may still hold their listeners.
type Closing = Arc<Mutex<Vec<JoinHandle<()>>>>;

impl Drop for Listening {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            self.closing.lock().unwrap_or_else(PoisonError::into_inner).push(task);
        }
    }
}

/// Why a port cannot be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    /// Only root may take it.
    Privileged,
    /// Somebody has it on all addresses.
    Taken,
}

impl Places {
    /// Reads which addresses were given before.
    pub(crate) fn read(addresses: &Path) -> Result<Self, AddressError> {
        Ok(Self {
            addresses: Mutex::new(Addresses::load(addresses)?),
            listening: Mutex::default(),
            closing: Closing::default(),
            room: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            flows: Flows::default(),
        })
    }

    /// Opens a listener for each service and port, or none and says why.
    pub(crate) async fn open(
        &self,
        keeper: &Arc<Keeper>,
        teamspace: TeamspaceId,
        services: &[(Callee, Vec<ServicePort>)],
        remap: bool,
    ) -> Result<Vec<Placed>, Failure> {
        let count: usize = services.iter().map(|(_, ports)| ports.len()).sum();
        if count > PORTS_MAX {
            return Err(Failure::new(
                FailureKind::LaptopNetwork,
                format!("{count} ports are more than the {PORTS_MAX} that one program can have"),
            )
            .hint("name fewer services"));
        }
        let addresses = self.addresses_of(teamspace, services)?;
        // What nobody holds any more must not be in the way of the next program.
        let closing =
            std::mem::take(&mut *self.closing.lock().unwrap_or_else(PoisonError::into_inner));
        for task in closing {
            // It was aborted.
            drop(task.await);
        }
        let (mut placed, mut troubles) = (Vec::new(), Vec::new());
        for ((service, ports), address) in services.iter().zip(addresses) {
            let mut opened = Vec::new();
            for port in ports {
                let key = (teamspace, service.clone(), *port);
                match self.listening_for(keeper, key, address, remap) {
                    Ok(listening) => opened.push(listening),
                    Err(error) => troubles.push((service.clone(), *port, trouble(error)?)),
                }
            }
            placed.push((service.clone(), address, opened));
        }
        if troubles.is_empty() { Ok(placed) } else { Err(not_to_be_had(&troubles)) }
    }

    fn addresses_of(
        &self,
        teamspace: TeamspaceId,
        services: &[(Callee, Vec<ServicePort>)],
    ) -> Result<Vec<Ipv4Addr>, Failure> {
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        let keys = services.iter().map(|(service, _)| (teamspace, service.clone()));
        let found = keys.map(|key| addresses.of(&key)).collect::<Result<Vec<_>, _>>();
        let found = found.and_then(|found| addresses.save().map(|()| found));
        found.map_err(|error| Failure::new(FailureKind::LaptopNetwork, error.to_string()))
    }

    fn listening_for(
        &self,
        keeper: &Arc<Keeper>,
        key: Key,
        address: Ipv4Addr,
        remap: bool,
    ) -> io::Result<Arc<Listening>> {
        let mut all = self.listening.lock().unwrap_or_else(PoisonError::into_inner);
        let port = key.2;
        let fits = |there: &Arc<Listening>| remap || there.address.port() == port.port.get();
        if let Some(there) = all.get(&key).and_then(Weak::upgrade).filter(fits) {
            return Ok(there);
        }
        let (address, task) = self.serve(keeper, key.clone(), address, remap)?;
        let (task, closing) = (Some(task), Arc::clone(&self.closing));
        let listening = Arc::new(Listening { port, address, task, closing });
        all.retain(|_, listening| listening.strong_count() > 0);
        all.insert(key, Arc::downgrade(&listening));
        Ok(listening)
    }

    /// Serves the port at `address`, or another one where that will do, and says which.
    fn serve(
        &self,
        keeper: &Arc<Keeper>,
        key: Key,
        address: Ipv4Addr,
        remap: bool,
    ) -> io::Result<(SocketAddrV4, JoinHandle<()>)> {
        let (keeper, at) = (Arc::clone(keeper), SocketAddrV4::new(address, key.2.port.get()));
        match key.2.protocol {
            Protocol::Tcp => {
                let (listener, on) = bind(at, remap, StdListener::bind)?;
                let (arrivals, room) = (Arrivals::at(listener)?, Arc::clone(&self.room));
                Ok((on, tokio::spawn(accept_each(keeper, room, arrivals, on, key))))
            }
            Protocol::Udp => {
                let (socket, on) = bind(at, remap, StdUdpSocket::bind)?;
                let (socket, flows) = (UdpSocket::from_std(socket)?, self.flows.clone());
                let leads = Arc::new(move |keeper: &Keeper| route(keeper, &key));
                Ok((on, tokio::spawn(datagrams::receive(keeper, flows, on, socket, leads))))
            }
        }
    }
}

/// Binds a socket that nobody waits for, at its own port or elsewhere, and says where.
fn bind<S: AsFd>(
    own: SocketAddrV4,
    remap: bool,
    at: impl Fn(SocketAddrV4) -> io::Result<S>,
) -> io::Result<(S, SocketAddrV4)> {
    let socket = match at(own) {
        Err(error) if remap && trouble_of(&error).is_some() => {
            let others = elsewhere(own.port()).map(|port| SocketAddrV4::new(*own.ip(), port));
            others.map(&at).find_map(Result::ok).ok_or(error)?
        }
        bound => bound?,
    };
    let bound = SockRef::from(&socket);
    bound.set_nonblocking(true)?;
    let on = bound.local_addr()?.as_socket_ipv4().ok_or(io::ErrorKind::AddrNotAvailable)?;
    Ok((socket, on))
}

fn route(keeper: &Keeper, (teamspace, callee, port): &Key) -> Option<Route> {
    keeper.sessions().route_of_programs(*teamspace, callee, *port)
}

/// Returns where else a port may be: 80 at 8080, 443 at 8443, others 10,000 further on, and at last anywhere.
fn elsewhere(port: u16) -> impl Iterator<Item = u16> {
    let further = if port < 1024 { 8_000 } else { 10_000 };
    port.checked_add(further).into_iter().chain([0])
}

fn trouble_of(error: &io::Error) -> Option<Trouble> {
    match error.kind() {
        io::ErrorKind::PermissionDenied => Some(Trouble::Privileged),
        io::ErrorKind::AddrInUse => Some(Trouble::Taken),
        _ => None,
    }
}

fn trouble(error: io::Error) -> Result<Trouble, Failure> {
    trouble_of(&error).ok_or_else(|| {
        let message = format!("could not listen for a service: {error}");
        Failure::new(FailureKind::LaptopNetwork, message)
            .hint("`ulimit -Hn` says how many sockets there may be; name fewer services")
    })
}

/// Says which ports cannot be had, and what to do about it.
fn not_to_be_had(troubles: &[(Callee, ServicePort, Trouble)]) -> Failure {
    let said = |(service, port, trouble): &(Callee, ServicePort, Trouble)| match trouble {
        Trouble::Privileged => format!("{service}:{port} (only root may take port {port})"),
        Trouble::Taken => {
            format!("{service}:{port} (another program has port {port} on every address)")
        }
    };
    let mut all: Vec<String> = troubles.iter().take(TROUBLES_SHOWN).map(said).collect();
    if troubles.len() > TROUBLES_SHOWN {
        all.push(format!("{} more", troubles.len() - TROUBLES_SHOWN));
    }
    let is_privileged = troubles.iter().any(|(_, _, trouble)| *trouble == Trouble::Privileged);
    let hint = if is_privileged {
        "take other ports instead: --remap; or have root lift the limit once (sysctl \
         net.ipv4.ip_unprivileged_port_start=0), or start the supervisor: fairlead start, then fairlead consume"
    } else {
        "take other ports instead: --remap; `ss -lntup` shows who has them"
    };
    let message = format!("no listener can be had for {}", all.join(", "));
    Failure::new(FailureKind::LaptopNetwork, message).hint(hint)
}

async fn accept_each(
    keeper: Arc<Keeper>,
    room: Arc<Semaphore>,
    arrivals: Arrivals,
    address: SocketAddrV4,
    key: Key,
) {
    loop {
        let slot = Arc::clone(&room).acquire_owned().await.expect("the semaphore is never closed");
        match arrivals.next().await {
            Ok((tcp, from)) => {
                let (keeper, key) = (Arc::clone(&keeper), key.clone());
                tokio::spawn(async move {
                    receive(&keeper, tcp, from, address, key).await;
                    drop(slot);
                });
            }
            Err(error) => {
                warn!("Could not accept: {error}");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Carries one connection, if it is this user's: everybody on the machine can reach a listener.
async fn receive(keeper: &Keeper, tcp: TcpStream, from: SocketAddr, to: SocketAddrV4, key: Key) {
    let owner = tokio::task::spawn_blocking(move || user_of_connection(to.into(), from)).await;
    if owner.ok().flatten() != Some(Uid::current().as_raw()) {
        return connections::reset(&tcp, &key.1, "it is another user's", &from);
    }
    match route(keeper, &key) {
        Some(route) => connections::carry(keeper, tcp, route).await,
        None => connections::reset(
            &tcp,
            &key.1,
            "no session here leads there",
            &"one may just have ended",
        ),
    }
}

#[cfg(test)]
mod tests {
    use fairlead_model::{Phase, Port, ServiceRef};
    use fairlead_wire::open::Refusal;
    use tokio::time::timeout;

    use super::*;
    use crate::{
        desired::Wish,
        program::Program,
        sessions,
        stage::{self, Agent},
    };

    const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 75, 250, 1);

    fn port(number: u16) -> Port {
        Port::new(number).expect("not 0")
    }

    fn service(name: &str) -> Callee {
        name.parse::<ServiceRef>().expect("valid").into()
    }

    /// Returns a port that somebody has on every address, for as long as the listener lives.
    fn taken() -> (StdListener, Port) {
        let listener = StdListener::bind("0.0.0.0:0").expect("bound");
        let port = listener.local_addr().expect("bound").port();
        (listener, Port::new(port).expect("not 0"))
    }

    #[test]
    fn a_port_that_is_taken_is_elsewhere_only_when_that_will_do() {
        let (_holder, port) = taken();
        let own = SocketAddrV4::new(ADDRESS, port.get());
        let error = bind(own, false, StdListener::bind).expect_err("taken");
        assert_eq!(trouble_of(&error), Some(Trouble::Taken));
        let (moved, on) = bind(own, true, StdListener::bind).expect("another port");
        assert_ne!(on.port(), port.get());
        assert_eq!(moved.local_addr().expect("bound"), on.into());
    }

    #[test]
    fn a_low_port_goes_where_people_look_for_it() {
        assert_eq!(elsewhere(80).next(), Some(8080));
        assert_eq!(elsewhere(443).next(), Some(8443));
        assert_eq!(elsewhere(5432).next(), Some(15432));
        assert_eq!(elsewhere(65_000).collect::<Vec<_>>(), [0]);
    }

    #[test]
    fn what_cannot_be_had_is_named_with_what_to_do() {
        let failure = not_to_be_had(&[
            (service("shop/frontend"), ServicePort::tcp(port(80)), Trouble::Privileged),
            (service("shop/pay"), ServicePort::udp(port(8080)), Trouble::Taken),
        ]);
        assert!(failure.message.contains("shop/frontend:80"), "{failure}");
        assert!(failure.message.contains("shop/pay:8080/udp (another program"), "{failure}");
        let hint = failure.hint.expect("one");
        assert!(hint.contains("--remap") && hint.contains("supervisor"), "{hint}");
        let many = vec![(service("shop/pay"), ServicePort::tcp(port(8080)), Trouble::Taken); 9];
        let failure = not_to_be_had(&many);
        assert!(failure.message.ends_with("4 more"), "{failure}");
        assert!(!failure.hint.expect("one").contains("root"));
    }

    #[tokio::test]
    async fn programs_share_a_listener_and_the_last_one_closes_it() {
        let (_folder, keeper) = stage::keeper();
        let (teamspace, free) = (TeamspaceId::generate(), free_port());
        let services = [(service("shop/cart"), vec![ServicePort::tcp(free)])];
        let open = || keeper.places.open(&keeper, teamspace, &services, false);
        let (first, second) = (open().await.expect("free"), open().await.expect("shared"));
        let address = first[0].2[0].address;
        assert_eq!(address, second[0].2[0].address);
        drop(first);
        StdListener::bind(address).expect_err("the second one has it");
        drop(second);
        let next = open().await.expect("the next one is not in the way of the last one's end");
        assert_eq!(next[0].2[0].address, address);
    }

    #[tokio::test]
    async fn nothing_stays_open_when_one_port_cannot_be_had() {
        let (_folder, keeper) = stage::keeper();
        let (teamspace, free, (_holder, taken)) = (TeamspaceId::generate(), free_port(), taken());
        let services = [(service("shop/cart"), [free, taken].map(ServicePort::tcp).into())];
        let open = |services, remap| keeper.places.open(&keeper, teamspace, services, remap);
        open(&services, false).await.expect_err("one is taken");
        let alone = [(service("shop/cart"), vec![ServicePort::tcp(free)])];
        let placed = open(&alone, false).await.expect("free");
        assert_eq!(placed[0].2[0].address.port(), free.get());
        let moved = open(&services, true).await.expect("elsewhere");
        assert_ne!(moved[0].2[1].address.port(), taken.get());
    }

    #[tokio::test]
    async fn datagrams_of_a_program_lead_to_its_service_and_the_socket_ends_with_the_last_one() {
        let (_folder, keeper) = stage::keeper();
        let (teamspace, udp) = (TeamspaceId::generate(), ServicePort::udp(free_port()));
        let services = vec![(service("shop/dns"), vec![udp])];
        let placed = keeper.places.open(&keeper, teamspace, &services, false).await.expect("free");
        let on = placed[0].2[0].address;
        assert_eq!(on.port(), udp.port.get());

        let agent = Agent::which_refuses(Refusal::Unreachable, "nobody is there");
        let mut session = sessions::tests::consume(teamspace);
        let (id, patterns) = (session.desired.id, session.patterns().expect("a consume").clone());
        session.desired.wish = Wish::Consume { patterns, services: services.clone() };
        session.openers.send_replace(vec![agent.opener().await]);
        session.program = Some(Program::of(placed, &services));
        keeper.sessions().insert(session);
        let application = UdpSocket::bind((ADDRESS, 0)).await.expect("bound");
        let refused = async {
            // A flow that is refused while it sends does not always hear why; the next one does.
            while keeper.sessions().live(id).expect("lives").refusals.is_empty() {
                application.send_to(b"who?", on).await.expect("sent");
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(60), refused).await.expect("the agent was asked");

        keeper.sessions().end(id, Phase::Ended, None);
        let again = keeper.places.open(&keeper, teamspace, &services, false).await.expect("free");
        assert_eq!(again[0].2[0].address, on, "the port is free again");
    }

    fn free_port() -> Port {
        let listener = StdListener::bind((ADDRESS, 0)).expect("bound");
        Port::new(listener.local_addr().expect("bound").port()).expect("not 0")
    }
}
