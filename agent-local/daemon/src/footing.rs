//! The daemon's standing on the machine: its connection to the supervisor, which gives it a listener, names and
//! redirects.
//!
//! A thread of its own, since passing descriptors is blocking work. When the supervisor dies the thread tries again
//! until another one is there, and says so; what that one should put is for the footprint's task to ask.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    net::{Ipv4Addr, SocketAddrV4, TcpListener, UdpSocket},
    os::unix::net::UnixStream,
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

use fairlead_model::timers::SUPERVISOR_ANSWER;
use laptop_ipc::{
    Failure, FailureKind, FrameError, peer_of, receive_descriptor,
    supervisor::{Answer, DaemonFolders, Listening, Reached, Reply, Request, SplitDns},
};
use tokio::sync::{oneshot, watch};
use tracing::{info, warn};

use crate::{
    datagrams::{self, Sockets},
    dns::DnsSockets,
    doors::{Door, Doors},
};

/// Only the footprint's task asks, one thing at a time.
const QUEUE: usize = 1;
/// Between two looks whether the supervisor is still there.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The listener as the supervisor passed it, with the address that proves the redirect.
#[derive(Debug)]
pub(crate) struct Passed {
    pub(crate) listener: TcpListener,
    pub(crate) canary: SocketAddrV4,
}

pub(crate) type Listeners = watch::Receiver<Option<Arc<Passed>>>;
pub(crate) type SetReply = Result<Placed, Failure>;
type Order = (Wanted, oneshot::Sender<SetReply>);

/// What the footprint should be.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted {
    pub(crate) services: Vec<Reached>,
    pub(crate) may_remap: bool,
}

/// Where the services are: an address for each, and the doors where nothing can be redirected.
#[derive(Debug, Clone)]
pub(crate) struct Placed {
    pub(crate) addresses: Vec<Ipv4Addr>,
    pub(crate) doors: Option<Doors>,
    /// Where datagrams are received that applications have to send to another port.
    pub(crate) moved_datagrams: HashMap<SocketAddrV4, SocketAddrV4>,
}

/// What the thread passes on: the listener, and the sockets for datagrams and for DNS.
pub(crate) struct PassedOn {
    pub(crate) listeners: Listeners,
    pub(crate) sockets: watch::Receiver<Sockets>,
    pub(crate) dns: watch::Receiver<Option<Arc<DnsSockets>>>,
}

/// A hold on the thread.
#[derive(Debug)]
pub(crate) struct Footing {
    wanted_tx: mpsc::SyncSender<Order>,
    passed_rx: Listeners,
    contested_rx: watch::Receiver<Option<String>>,
    doors_rx: watch::Receiver<Option<Doors>>,
    dns_refusal_rx: watch::Receiver<Option<String>>,
    split_dns_rx: watch::Receiver<Option<SplitDns>>,
}

impl Footing {
    /// Starts the thread. The first supervisor may come later than the daemon.
    pub(crate) fn begin(socket: PathBuf, folders: DaemonFolders) -> (Self, PassedOn) {
        let (wanted_tx, wanted_rx) = mpsc::sync_channel::<Order>(QUEUE);
        let (passed_tx, passed_rx) = watch::channel(None);
        let (sockets_tx, sockets_rx) = watch::channel(Sockets::default());
        let (dns_tx, dns_rx) = watch::channel(None);
        let (dns_refusal_tx, dns_refusal_rx) = watch::channel(None);
        let (split_dns_tx, split_dns_rx) = watch::channel(None);
        let (contested_tx, contested_rx) = watch::channel(None);
        let (doors_tx, doors_rx) = watch::channel(None);
        let mut standing = Standing {
            socket,
            folders,
            stream: None,
            passed_tx,
            sockets_tx,
            dns_tx,
            dns_refusal_tx,
            split_dns_tx,
            contested_tx,
            doors_tx,
            was_missing: false,
        };
        thread::spawn(move || {
            standing.look();
            loop {
                match wanted_rx.recv_timeout(LOOK_EVERY) {
                    Ok((wanted, reply_tx)) => {
                        // Who asked may have given up meanwhile; the footprint is wanted all the same.
                        drop(reply_tx.send(standing.set(wanted)));
                    }
                    Err(RecvTimeoutError::Timeout) => standing.look(),
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        });
        let passed_on = PassedOn { listeners: passed_rx.clone(), sockets: sockets_rx, dns: dns_rx };
        let footing =
            Self { wanted_tx, passed_rx, contested_rx, doors_rx, dns_refusal_rx, split_dns_rx };
        (footing, passed_on)
    }

    /// Returns the doors of the moment, and tells of each change.
    pub(crate) fn doors(&self) -> watch::Receiver<Option<Doors>> {
        self.doors_rx.clone()
    }

    /// Returns what another program keeps changing, as the supervisor says.
    pub(crate) fn contested(&self) -> Option<String> {
        self.contested_rx.borrow().clone()
    }

    /// Returns why some names are not resolved on this machine.
    pub(crate) fn dns_refusal(&self) -> Option<String> {
        self.dns_refusal_rx.borrow().clone()
    }

    /// Returns whether the machine's own resolver asks our DNS server.
    pub(crate) fn split_dns(&self) -> Option<SplitDns> {
        self.split_dns_rx.borrow().clone()
    }

    /// Says whether a supervisor is there. Without one no name stands.
    pub(crate) fn stands(&self) -> bool {
        self.passed_rx.borrow().is_some()
    }

    /// Returns what the supervisor of the moment passed, and tells of each that is new.
    pub(crate) fn listeners(&self) -> Listeners {
        self.passed_rx.clone()
    }

    /// Makes the footprint be exactly this and returns the address of each service.
    pub(crate) async fn set(&self, wanted: Wanted) -> SetReply {
        let ending = || Failure::new(FailureKind::Internal, "the daemon is ending");
        let (reply_tx, reply_rx) = oneshot::channel();
        self.wanted_tx.try_send((wanted, reply_tx)).map_err(|_| ending())?;
        reply_rx.await.map_err(|_| ending())?
    }
}

struct Standing {
    socket: PathBuf,
    folders: DaemonFolders,
    stream: Option<UnixStream>,
    passed_tx: watch::Sender<Option<Arc<Passed>>>,
    sockets_tx: watch::Sender<Sockets>,
    dns_tx: watch::Sender<Option<Arc<DnsSockets>>>,
    dns_refusal_tx: watch::Sender<Option<String>>,
    split_dns_tx: watch::Sender<Option<SplitDns>>,
    contested_tx: watch::Sender<Option<String>>,
    doors_tx: watch::Sender<Option<Doors>>,
    was_missing: bool,
}

impl Standing {
    fn set(&mut self, wanted: Wanted) -> SetReply {
        if self.stream.is_none() {
            self.look();
        }
        let Wanted { services, may_remap } = wanted;
        match self.ask(Request::Set { services, may_remap })? {
            Answer::Set {
                addresses,
                listeners,
                datagrams: standing,
                passed,
                passes_dns,
                dns_refusal,
                split_dns,
            } => {
                let doors = listeners.map(|listed| self.receive(listed)).transpose()?;
                self.dns_refusal_tx.send_replace(dns_refusal);
                self.split_dns_tx.send_replace(split_dns);
                let taken = self.take_sockets(&standing, &passed);
                let taken = taken.and_then(|()| self.take_dns(addresses.is_empty(), passes_dns));
                if let Err(error) = taken {
                    self.lose();
                    let message = format!("the supervisor passed no socket: {error}");
                    return Err(Failure::new(FailureKind::Supervisor, message)
                        .hint("restart the parts: fairlead stop, then fairlead start"));
                }
                self.doors_tx.send_replace(doors.clone());
                let moved_datagrams = datagrams::moved(&self.sockets_tx.borrow());
                Ok(Placed { addresses, doors, moved_datagrams })
            }
            other => {
                Err(Failure::new(FailureKind::Version, format!("unexpected answer: {other:?}")))
            }
        }
    }

    /// Takes the listeners that are new; the others are here already.
    fn receive(&mut self, listed: Vec<Listening>) -> Result<Doors, Failure> {
        let had = self.doors_tx.borrow().clone().unwrap_or_default();
        let mut doors = BTreeMap::new();
        for Listening { destination, on, is_new } in listed {
            let door = match had.get(&destination).filter(|_| !is_new) {
                Some(door) => Arc::clone(door),
                None => match self.receive_one() {
                    Ok(listener) => Arc::new(Door { on, listener }),
                    Err(error) => {
                        // What comes next on this connection cannot be told from what came too late.
                        self.lose();
                        let message =
                            format!("the supervisor passed no listener for {on}: {error}");
                        return Err(Failure::new(FailureKind::Supervisor, message)
                            .hint("restart the parts: fairlead stop, then fairlead start"));
                    }
                },
            };
            doors.insert(destination, door);
        }
        Ok(Arc::new(doors))
    }

    fn receive_one(&self) -> io::Result<TcpListener> {
        let stream = self.stream.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        let listener = TcpListener::from(receive_descriptor(stream)?);
        listener.set_nonblocking(true)?;
        Ok(listener)
    }

    /// Sees whether the supervisor is there; if it is new, gets a listener from it.
    fn look(&mut self) {
        if self.stream.is_some()
            && let Ok(answer) = self.ask(Request::Status)
        {
            if let Answer::Status { contested, .. } = answer {
                self.contested_tx.send_replace(contested);
            }
            return;
        }
        match self.attach() {
            Ok(()) => {
                self.was_missing = false;
                info!("Attached to the supervisor");
            }
            Err(error) => {
                self.lose();
                if !self.was_missing {
                    warn!("No supervisor: {error}");
                }
                self.was_missing = true;
            }
        }
    }

    fn attach(&mut self) -> Result<(), FrameError> {
        let mut stream = UnixStream::connect(&self.socket)?;
        if peer_of(&stream)?.uid != 0 {
            return Err(io::Error::other("its socket is not root's").into());
        }
        stream.set_read_timeout(Some(SUPERVISOR_ANSWER))?;
        stream.set_write_timeout(Some(SUPERVISOR_ANSWER))?;
        let request = Request::Attach(self.folders.clone());
        let reply: Reply = laptop_ipc::ask_blocking(&mut stream, request)?;
        let Ok(Answer::Attached { canary, canary_port }) = reply else {
            return Err(io::Error::other(format!("it refused: {reply:?}")).into());
        };
        let listener = TcpListener::from(receive_descriptor(&stream)?);
        listener.set_nonblocking(true)?;
        let canary = SocketAddrV4::new(canary, canary_port.get());
        self.passed_tx.send_replace(Some(Arc::new(Passed { listener, canary })));
        self.stream = Some(stream);
        Ok(())
    }

    /// Takes the sockets that follow an answer, and keeps of those before what stands still.
    fn take_sockets(&self, standing: &[SocketAddrV4], passed: &[SocketAddrV4]) -> io::Result<()> {
        let Some(stream) = &self.stream else { return Ok(()) };
        let mut sockets = HashMap::clone(&self.sockets_tx.borrow());
        sockets.retain(|to, _| standing.contains(to));
        for to in passed {
            let socket = UdpSocket::from(receive_descriptor(stream)?);
            socket.set_nonblocking(true)?;
            sockets.insert(*to, Arc::new(socket));
        }
        self.sockets_tx.send_replace(Arc::new(sockets));
        Ok(())
    }

    /// Takes the sockets of the DNS server; where nothing is reached they are given up.
    fn take_dns(&self, reaches_nothing: bool, passes_dns: bool) -> io::Result<()> {
        if reaches_nothing {
            self.dns_tx.send_replace(None);
        }
        let Some(stream) = self.stream.as_ref().filter(|_| passes_dns) else { return Ok(()) };
        let udp = UdpSocket::from(receive_descriptor(stream)?);
        let tcp = TcpListener::from(receive_descriptor(stream)?);
        udp.set_nonblocking(true)?;
        tcp.set_nonblocking(true)?;
        self.dns_tx.send_replace(Some(Arc::new(DnsSockets { udp, tcp })));
        Ok(())
    }

    fn ask(&mut self, request: Request) -> Result<Answer, Failure> {
        let none = || {
            Failure::new(
                FailureKind::Supervisor,
                "no supervisor is running, so no name can be added",
            )
            .hint("start it: fairlead start")
        };
        let stream = self.stream.as_mut().ok_or_else(none)?;
        match laptop_ipc::ask_blocking::<Reply>(stream, request) {
            Ok(reply) => reply,
            Err(error) => {
                warn!("The supervisor is gone: {error}");
                self.lose();
                Err(none())
            }
        }
    }

    fn lose(&mut self) {
        self.stream = None;
        // The next supervisor makes them anew, at the same ports if they are free by then.
        self.sockets_tx.send_replace(Sockets::default());
        self.dns_tx.send_replace(None);
        self.split_dns_tx.send_replace(None);
        self.contested_tx.send_replace(None);
        self.doors_tx.send_replace(None);
        self.passed_tx.send_replace(None);
    }
}
