//! Consume over UDP: each application that sends to a consumed port is a flow, and each flow a stream.
//!
//! The supervisor makes one socket for each consumed UDP port and leads this user's datagrams to it, so the socket says
//! whom they are for. Where nothing is redirected, and for single programs, the socket stands where they are sent to, and
//! everybody on the machine can reach it: there the kernel is asked whose the sender is, before there is a flow and again
//! while there is one.
//!
//! There are at most `FLOWS_MAX` flows; where one more is wanted, the one that has been silent for longest goes. A flow
//! whose carrier or service is slow drops its own datagrams, the oldest first, and delays nobody.

use std::{
    collections::HashMap,
    io,
    net::{SocketAddr, SocketAddrV4},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use bytes::Bytes;
use fairlead_model::{Protocol, timers::UDP_FLOW_IDLE};
use fairlead_tunnel::datagrams::{DATAGRAM_MAX_BYTES, Queue, carry, is_only_lost};
use laptop_ipc::sockets::user_of_sender;
use nix::unistd::Uid;
use tokio::{net::UdpSocket, sync::watch, task::AbortHandle};
use tracing::{debug, warn};

use crate::{
    connections,
    keeper::Keeper,
    knocks,
    session::{Route, Task},
};

/// Flows of one user's consume, and again of all that single programs have. A resolver makes a flow of each question.
const FLOWS_MAX: usize = 1024;
/// A port that one user gave up may be another's: so long a flow is believed to be of whom it was.
const OWNER_IS_BELIEVED: Duration = Duration::from_secs(1);

/// The sockets that stand, each for the address and port that applications send to.
pub(crate) type Sockets = Arc<HashMap<SocketAddrV4, Arc<std::net::UdpSocket>>>;

/// Whom an application sends to, and who it is.
type Ends = (SocketAddrV4, SocketAddr);

/// Finds where a socket's datagrams lead at a moment.
pub(crate) type Leads = Arc<dyn Fn(&Keeper) -> Option<Route> + Send + Sync>;

/// Lists which sockets applications have to send to at another port than the service's.
pub(crate) fn moved(
    sockets: &HashMap<SocketAddrV4, Arc<std::net::UdpSocket>>,
) -> HashMap<SocketAddrV4, SocketAddrV4> {
    let elsewhere = |(to, socket): (&SocketAddrV4, &Arc<std::net::UdpSocket>)| {
        let Ok(SocketAddr::V4(on)) = socket.local_addr() else { return None };
        (on.ip() == to.ip() && on != *to).then_some((*to, on))
    };
    sockets.iter().filter_map(elsewhere).collect()
}

/// Receives on every socket that stands, for as long as the daemon lives.
pub(crate) async fn receive_each(keeper: Arc<Keeper>, mut sockets_rx: watch::Receiver<Sockets>) {
    let flows = Flows::default();
    let mut receiving: HashMap<SocketAddrV4, (Arc<std::net::UdpSocket>, Task)> = HashMap::new();
    loop {
        let sockets = Arc::clone(&sockets_rx.borrow_and_update());
        receiving.retain(|to, (socket, _)| {
            sockets.get(to).is_some_and(|stands| Arc::ptr_eq(stands, socket))
        });
        for (to, passed) in sockets.iter() {
            if receiving.contains_key(to) {
                continue;
            }
            match passed.try_clone().and_then(UdpSocket::from_std) {
                Ok(socket) => {
                    let to = *to;
                    let leads: Leads =
                        Arc::new(move |keeper| keeper.sessions().route_of_datagrams(to));
                    let receive = receive(keeper.clone(), flows.clone(), to, socket, leads);
                    let task = Task(tokio::spawn(receive));
                    receiving.insert(to, (Arc::clone(passed), task));
                }
                Err(error) => warn!("The socket for {to} cannot be used: {error}"),
            }
        }
        if sockets_rx.changed().await.is_err() {
            return;
        }
    }
}

/// Receives what applications send to `to`. With this end the socket closes and its flows end.
pub(crate) async fn receive(
    keeper: Arc<Keeper>,
    flows: Flows,
    to: SocketAddrV4,
    socket: UdpSocket,
    leads: Leads,
) {
    let socket = Arc::new(socket);
    let _flowing = Flowing { flows: flows.clone(), to };
    let mut buffer = vec![0; DATAGRAM_MAX_BYTES];
    // What is redirected is this user's: the kernel does that for nobody else.
    let is_open_to_all = socket.local_addr().is_ok_and(|on| on.ip() == *to.ip());
    loop {
        let (length, application) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            // An answer that did not reach its application comes back as an error of the socket that sent it.
            Err(error) => {
                debug!(%to, "{error}");
                tokio::task::yield_now().await;
                continue;
            }
        };
        if knocks::is_knock(&buffer[..length]) {
            if keeper.knocks.is_from_us(Protocol::Udp, application) {
                // Who asked asks again when this does not arrive.
                drop(socket.try_send_to(keeper.knocks.answer(), application));
            }
            continue;
        }
        let ends = (to, application);
        if is_open_to_all && !flows.is_of_this_user(ends).await {
            debug!("Datagrams of another user are refused: {application} to {to}");
            continue;
        }
        let queue = flows.of(ends, || {
            let flow = Flow { ends, queue: Arc::default(), socket: Arc::downgrade(&socket) };
            let (queue, route) = (Arc::clone(&flow.queue), leads(&keeper));
            (queue, tokio::spawn(flow.run(keeper.clone(), flows.clone(), route)).abort_handle())
        });
        queue.push(Bytes::copy_from_slice(&buffer[..length]));
    }
}

/// One application's conversation with one port.
struct Flow {
    ends: Ends,
    queue: Arc<Queue>,
    /// Whoever receives has it: a flow that is just ending must not keep its port.
    socket: Weak<UdpSocket>,
}

impl Flow {
    async fn run(self, keeper: Arc<Keeper>, flows: Flows, route: Option<Route>) {
        let (_, application) = self.ends;
        if let Some(mut route) = route {
            match connections::open(&mut route).await {
                Ok(stream) => {
                    let deliver = |datagram: &[u8]| {
                        let socket = self.socket.upgrade().ok_or(io::ErrorKind::NotConnected)?;
                        match socket.try_send_to(datagram, application) {
                            Err(error) if !is_only_lost(&error) => Err(error),
                            _ => Ok(()),
                        }
                    };
                    let flowed = carry(stream, &self.queue, deliver, UDP_FLOW_IDLE).await;
                    debug!(callee = %route.callee, ?flowed, "A flow ended");
                    connections::note_flow(&keeper, &route, &flowed);
                }
                Err(error) => {
                    debug!(callee = %route.callee, port = %route.port, "Not opened: {error}")
                }
            }
        }
        flows.forget(self.ends, &self.queue);
    }
}

/// The flows of one socket, for as long as it is received on.
struct Flowing {
    flows: Flows,
    to: SocketAddrV4,
}

impl Drop for Flowing {
    fn drop(&mut self) {
        self.flows.end_all_to(self.to);
    }
}

/// The flows of this daemon.
#[derive(Debug, Clone, Default)]
pub(crate) struct Flows(Arc<Mutex<HashMap<Ends, Live>>>);

#[derive(Debug)]
struct Live {
    queue: Arc<Queue>,
    task: AbortHandle,
    heard: Instant,
    /// When its sender was last seen to be this user's.
    vouched: Instant,
}

impl Flows {
    /// Says whether this user sends; a flow whose port is by now another's ends.
    async fn is_of_this_user(&self, ends: Ends) -> bool {
        let is_believed = |live: &Live| live.vouched.elapsed() < OWNER_IS_BELIEVED;
        if self.lock().get(&ends).is_some_and(is_believed) {
            return true;
        }
        let (_, application) = ends;
        let owner = tokio::task::spawn_blocking(move || user_of_sender(application)).await;
        let is_ours = owner.ok().flatten() == Some(Uid::current().as_raw());
        self.vouch(ends, is_ours);
        is_ours
    }

    fn vouch(&self, ends: Ends, is_ours: bool) {
        let mut flows = self.lock();
        let Some(live) = flows.get_mut(&ends) else { return };
        if is_ours {
            live.vouched = Instant::now();
        } else if let Some(live) = flows.remove(&ends) {
            live.task.abort();
        }
    }

    /// Returns the queue of a flow; one that is not there yet is begun, in place of the one that has been silent for
    /// longest where there are too many.
    fn of(&self, ends: Ends, begin: impl FnOnce() -> (Arc<Queue>, AbortHandle)) -> Arc<Queue> {
        let mut flows = self.lock();
        let heard = Instant::now();
        if let Some(live) = flows.get_mut(&ends) {
            live.heard = heard;
            return Arc::clone(&live.queue);
        }
        if flows.len() >= FLOWS_MAX {
            let silent = flows.iter().min_by_key(|(_, live)| live.heard).map(|(ends, _)| *ends);
            if let Some(live) = silent.and_then(|ends| flows.remove(&ends)) {
                live.task.abort();
            }
        }
        let (queue, task) = begin();
        flows.insert(ends, Live { queue: Arc::clone(&queue), task, heard, vouched: heard });
        queue
    }

    /// Ends the flows of a socket that stands no more.
    fn end_all_to(&self, gone: SocketAddrV4) {
        self.lock().retain(|(to, _), live| {
            let stays = *to != gone;
            if !stays {
                live.task.abort();
            }
            stays
        });
    }

    /// Forgets a flow that has ended, unless another one has its ends by now.
    fn forget(&self, ends: Ends, queue: &Arc<Queue>) {
        let mut flows = self.lock();
        if flows.get(&ends).is_some_and(|live| Arc::ptr_eq(&live.queue, queue)) {
            flows.remove(&ends);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Ends, Live>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::stage;

    fn ends(application: u16) -> Ends {
        let to = SocketAddrV4::new(Ipv4Addr::new(127, 72, 1, 2), 53);
        (to, (Ipv4Addr::LOCALHOST, application).into())
    }

    fn begin() -> (Arc<Queue>, AbortHandle) {
        (Arc::default(), tokio::spawn(std::future::pending::<()>()).abort_handle())
    }

    #[test]
    fn a_socket_at_another_port_of_the_same_address_is_one_that_moved() {
        let bound = |on: &str| Arc::new(std::net::UdpSocket::bind(on).expect("bound"));
        let (moved_to, there) = (bound("127.72.1.2:0"), bound("127.72.1.3:0"));
        let on = |socket: &std::net::UdpSocket| match socket.local_addr().expect("bound") {
            SocketAddr::V4(on) => on,
            SocketAddr::V6(_) => unreachable!("bound to IPv4"),
        };
        let (to, elsewhere) = (ends(1).0, on(&moved_to));
        let redirected =
            (SocketAddrV4::new(Ipv4Addr::new(127, 72, 1, 4), 53), bound("127.0.0.1:0"));
        let sockets = [(to, moved_to), (on(&there), there), redirected].into();
        assert_eq!(moved(&sockets), [(to, elsewhere)].into());
    }

    #[tokio::test]
    async fn where_there_are_too_many_flows_the_one_silent_for_longest_goes() {
        let flows = Flows::default();
        let first = flows.of(ends(1), begin);
        for application in 2..=1024 {
            flows.of(ends(application), begin);
        }
        let again = flows.of(ends(1), || unreachable!("it lives"));
        assert!(Arc::ptr_eq(&first, &again));
        let task = flows.lock()[&ends(2)].task.clone();
        flows.of(ends(2000), begin);
        assert_eq!(flows.lock().len(), FLOWS_MAX);
        assert!(flows.lock().contains_key(&ends(1)) && !flows.lock().contains_key(&ends(2)));
        tokio::task::yield_now().await;
        assert!(task.is_finished());
    }

    #[tokio::test]
    async fn who_sends_is_this_user_or_nobody_that_is_answered() {
        let flows = Flows::default();
        let to = SocketAddrV4::new(Ipv4Addr::new(127, 72, 1, 2), 53);
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("bound");
        let ends = (to, socket.local_addr().expect("bound"));
        assert!(flows.is_of_this_user(ends).await);
        flows.of(ends, begin);
        drop(socket);
        assert!(flows.is_of_this_user(ends).await, "it was, a moment ago");
        flows.lock().get_mut(&ends).expect("lives").vouched -= OWNER_IS_BELIEVED;
        let task = flows.lock()[&ends].task.clone();
        assert!(!flows.is_of_this_user(ends).await, "nobody has the port");
        tokio::task::yield_now().await;
        assert!(flows.lock().is_empty() && task.is_finished());
    }

    #[tokio::test]
    async fn a_knock_of_our_own_is_answered_and_begins_no_flow() {
        let (_folder, keeper) = stage::keeper();
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("bound");
        let SocketAddr::V4(to) = socket.local_addr().expect("bound") else { panic!("v4") };
        let (flows, leads) = (Flows::default(), Arc::new(|_: &Keeper| unreachable!("a flow")));
        let receive = receive(Arc::clone(&keeper), flows.clone(), to, socket, leads);
        let _receiving = Task(tokio::spawn(receive));
        keeper.knocks.send(to).await.expect("answered");
        // One that waited in the socket when the daemon before this one was killed.
        let stranger = UdpSocket::bind("127.0.0.1:0").await.expect("bound");
        stranger.send_to(knocks::ASKS, to).await.expect("sent");
        keeper.knocks.send(to).await.expect("answered, and so was the one before looked at");
        stranger.try_recv(&mut [0; 16]).expect_err("nobody else is told the answer");
        assert!(flows.lock().is_empty());
    }

    #[tokio::test]
    async fn flows_end_with_their_socket() {
        let flows = Flows::default();
        flows.of(ends(1), begin);
        let task = flows.lock()[&ends(1)].task.clone();
        let to = ends(1).0;
        flows.end_all_to(SocketAddrV4::new(*to.ip(), 54));
        assert_eq!(flows.lock().len(), 1);
        flows.end_all_to(to);
        tokio::task::yield_now().await;
        assert!(flows.lock().is_empty() && task.is_finished());
    }

    #[tokio::test]
    async fn a_flow_that_has_ended_takes_nothing_from_the_one_after_it() {
        let flows = Flows::default();
        let old = flows.of(ends(1), begin);
        flows.forget(ends(1), &old);
        let new = flows.of(ends(1), begin);
        flows.forget(ends(1), &old);
        assert!(Arc::ptr_eq(&new, &flows.of(ends(1), || unreachable!("it lives"))));
    }
}
