//! The one state of the supervisor: the machine's footprint and the daemon of each user.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    io,
    net::{Ipv4Addr, SocketAddrV4, TcpListener, UdpSocket},
    process,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use fairlead_model::{Port, Protocol, timers::DAEMON_BACK};
use laptop_footprint::{Footprint, FootprintError, Given, ListenError, Repairs, Wanted};
use laptop_ipc::{
    Failure, FailureKind, Peer,
    supervisor::{Answer, DaemonFolders, Reached, Reply, SplitDns},
};
use tracing::{info, warn};

use crate::{
    config::Config,
    daemons::Daemons,
    datagrams::{DatagramError, DatagramSockets, Way},
    dns_sockets::{Dns, DnsSockets},
};

/// A repair is looked at once more.
const AFTER_REPAIR: Duration = Duration::from_secs(1);

/// That the daemon of a user is connected. A later attachment of the same user replaces it.
#[derive(Debug)]
pub(crate) struct Attachment {
    uid: u32,
    peer: Peer,
    folders: DaemonFolders,
    number: u64,
}

/// A listener for a daemon.
#[derive(Debug)]
pub(crate) struct Passed {
    pub(crate) number: u64,
    pub(crate) destination: SocketAddrV4,
    pub(crate) on: SocketAddrV4,
    pub(crate) listener: TcpListener,
}

pub(crate) struct Machine {
    state: Mutex<State>,
    /// Told after every attachment, for those who wait for a daemon to come back.
    attached: Condvar,
    daemons: Daemons,
}

/// A clean-up that did not succeed, with what is still there.
#[derive(Debug)]
pub(crate) struct NotTakenBack {
    pub(crate) why: FootprintError,
    pub(crate) left: Vec<String>,
}

struct State {
    footprint: Footprint,
    users: HashMap<u32, User>,
    attachments: u64,
    dns: DnsSockets,
    repairs: Repairs,
    /// What another program keeps changing, while that is left alone.
    contested: Option<String>,
}

struct User {
    /// Kept here, so that a daemon that was killed finds its port and the connections that wait on it.
    listener: TcpListener,
    attachment: u64,
    pid: i32,
    is_attached: bool,
    services: HashSet<String>,
    datagrams: DatagramSockets,
}

/// What stands for a user, and the sockets that their daemon does not have yet.
#[derive(Debug, Default)]
pub(crate) struct Placed {
    /// One for each service.
    pub(crate) addresses: Vec<Ipv4Addr>,
    /// Where nothing can be redirected.
    pub(crate) listeners: Option<Vec<Passed>>,
    pub(crate) datagrams: Vec<SocketAddrV4>,
    pub(crate) to_pass: Vec<(SocketAddrV4, UdpSocket)>,
    pub(crate) dns: Option<Dns>,
    pub(crate) split_dns: Option<SplitDns>,
}

/// Why what a user wants does not stand.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotPlaced {
    #[error(transparent)]
    Footprint(#[from] FootprintError),
    #[error(transparent)]
    Datagrams(#[from] DatagramError),
}

impl Machine {
    pub(crate) fn new(config: &Config, footprint: Footprint) -> anyhow::Result<Self> {
        let state = State {
            footprint,
            users: HashMap::new(),
            attachments: 0,
            dns: DnsSockets::default(),
            repairs: Repairs::default(),
            contested: None,
        };
        Ok(Self {
            state: Mutex::new(state),
            attached: Condvar::new(),
            daemons: Daemons::new(config)?,
        })
    }

    pub(crate) fn start_daemon(&self, peer: Peer, folders: DaemonFolders) -> Reply {
        if let Some(pid) = self.attached_pid(peer.uid) {
            return Ok(Answer::Started { pid, was_running: true });
        }
        self.daemons.start(peer, folders)
    }

    /// Makes the folder for a daemon that the user starts without us.
    pub(crate) fn prepare_for(&self, peer: Peer) -> Reply {
        self.daemons.make_home(peer).map(|_| Answer::Done).map_err(|error| {
            Failure::new(
                FailureKind::Supervisor,
                format!("could not make the daemon's folder: {error}"),
            )
        })
    }

    /// Ends a user's daemon and removes their footprint, whoever started that daemon.
    pub(crate) fn stop_daemon(&self, uid: u32) -> Result<bool, NotTakenBack> {
        let attached = self.attached_pid(uid);
        // Forgotten first, so that its end is not taken for a crash.
        let mut state = self.state();
        state.users.remove(&uid);
        drop(state);
        let was_running = self.daemons.stop(uid, attached);
        let mut state = self.state();
        if let Err(why) = state.clear(uid) {
            warn!(uid, "Could not remove the footprint: {why}");
            return Err(state.not_taken_back(why));
        }
        Ok(was_running)
    }

    pub(crate) fn status(&self, uid: u32) -> Answer {
        let state = self.state();
        let user = state.users.get(&uid);
        Answer::Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: process::id(),
            daemon: user.filter(|u| u.is_attached).and_then(|u| u32::try_from(u.pid).ok()),
            services: user.map_or(0, |user| user.services.len()),
            contested: state.contested.clone(),
        }
    }

    /// Puts back what another program has changed, a few times a minute. Returns after which time to look again though
    /// nobody has said anything.
    pub(crate) fn put_back(&self, now: Instant) -> Option<Duration> {
        let mut state = self.state();
        let disturbed = match state.footprint.disturbed() {
            Ok(disturbed) => disturbed,
            Err(error) => {
                warn!("Could not see what another program changed: {error}");
                return None;
            }
        };
        if disturbed.is_empty() {
            state.contested = None;
            return None;
        }
        let what = disturbed.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ");
        if state.repairs.may_begin(now) {
            info!("Another program changed {what}; putting it back");
            let put = state.footprint.put_again();
            if let Err(error) = put {
                warn!("Could not put it back: {error}");
            }
            // What was put may have been changed before anybody listened again.
            return Some(state.repairs.pause(now).max(AFTER_REPAIR));
        }
        let contested = format!(
            "another program keeps changing {what}; it is put back 3 times a minute, not more often"
        );
        if state.contested.as_ref() != Some(&contested) {
            warn!("Contested: {contested}");
            state.contested = Some(contested);
        }
        Some(state.repairs.pause(now))
    }

    /// Says whether the link that systemd-resolved asks by should stand and does not.
    pub(crate) fn lacks_link(&self) -> bool {
        self.state().footprint.lacks_link()
    }

    /// Takes note of a user's daemon and returns the listener it shall use.
    pub(crate) fn attach(
        &self,
        peer: Peer,
        folders: DaemonFolders,
    ) -> io::Result<(Attachment, TcpListener)> {
        let mut state = self.state();
        state.attachments += 1;
        let number = state.attachments;
        let user = match state.users.remove(&peer.uid) {
            Some(user) => user,
            None => User::new()?,
        };
        let listener = user.listener.try_clone()?;
        let mut user = User { attachment: number, pid: peer.pid, is_attached: true, ..user };
        user.datagrams.begin_passing();
        state.users.insert(peer.uid, user);
        self.attached.notify_all();
        Ok((Attachment { uid: peer.uid, peer, folders, number }, listener))
    }

    /// Makes the footprint of an attached user be what is wanted.
    pub(crate) fn set(
        &self,
        attachment: &Attachment,
        services: Vec<Reached>,
        may_remap: bool,
    ) -> Result<Placed, NotPlaced> {
        let mut state = self.state();
        let State { footprint, users, dns, .. } = &mut *state;
        let Some(user) =
            users.get_mut(&attachment.uid).filter(|u| u.attachment == attachment.number)
        else {
            // Replaced by a newer daemon: what this one wants counts no more.
            return Ok(Placed::default());
        };
        let names = services.iter().map(|reached| reached.callee.to_string()).collect();
        let addresses = footprint.addresses_of(&services)?;
        let ports = datagram_ports(&services, &addresses);
        let way = if ports.is_empty() || footprint.can_redirect()? {
            Way::Redirected
        } else {
            Way::Sent { may_remap }
        };
        let before = user.datagrams.standing();
        let datagrams = user.datagrams.add(attachment.uid, &ports, way)?;
        let wanted = Wanted { listener: user.port(), services, may_remap, datagrams };
        let put = if wanted.services.is_empty() {
            footprint.clear(attachment.uid)
        } else {
            footprint.set(attachment.uid, wanted).map(drop)
        };
        user.datagrams.keep_only(if put.is_ok() { &ports } else { &before });
        put?;
        user.services = names;
        let listeners = listeners_of(footprint, attachment.uid)?;
        let given = if user.services.is_empty() {
            dns.take_from(attachment.uid);
            None
        } else {
            Some(dns.give(attachment.uid, attachment.number))
        };
        // Told last: what resolved asks before somebody listens it does not ask again.
        let split_dns = split(footprint, dns.are_held());
        let datagrams = user.datagrams.standing().into_iter().collect();
        let to_pass = user.datagrams.pass_on().map_err(DatagramError::Socket)?;
        Ok(Placed { addresses, listeners, datagrams, to_pass, dns: given, split_dns })
    }

    /// Removes the footprint of a daemon that went away, unless it is back at once.
    pub(crate) fn daemon_is_gone(&self, attachment: &Attachment) {
        self.start_again(attachment);
        let mut state = self.state();
        let deadline = Instant::now() + DAEMON_BACK;
        loop {
            let Some(user) = state.users.get_mut(&attachment.uid) else { return };
            if user.attachment != attachment.number {
                return;
            }
            user.is_attached = false;
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || user.services.is_empty() {
                break;
            }
            state =
                self.attached.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.users.remove(&attachment.uid);
        match state.clear(attachment.uid) {
            Ok(()) => info!(uid = attachment.uid, "Daemon is gone; its footprint is removed"),
            Err(error) => warn!(uid = attachment.uid, "Could not remove the footprint: {error}"),
        }
    }

    /// A daemon that another supervisor started is nobody's child here. One that ends in order wants nothing any more.
    fn start_again(&self, attachment: &Attachment) {
        let was_killed = {
            let state = self.state();
            let user = state.users.get(&attachment.uid);
            user.is_some_and(|u| u.attachment == attachment.number && !u.services.is_empty())
        };
        if was_killed
            && let Err(failure) = self.daemons.start(attachment.peer, attachment.folders.clone())
        {
            warn!(uid = attachment.uid, "{failure}");
        }
    }

    /// Removes what stands for this user, and says what it was. Root cleans up for everybody, daemons included: one
    /// that runs would put its names back.
    pub(crate) fn clean_up(&self, uid: u32, dry_run: bool) -> Result<Vec<String>, NotTakenBack> {
        let found = if uid == 0 {
            self.state().footprint.standing()
        } else {
            self.state().footprint.standing_for(uid)
        };
        if !dry_run && let Err(why) = self.clear_for(uid) {
            return Err(self.state().not_taken_back(why));
        }
        Ok(found.iter().map(ToString::to_string).collect())
    }

    fn clear_for(&self, uid: u32) -> Result<(), FootprintError> {
        if uid == 0 {
            self.end_daemons();
            return self.state().footprint.clear_all();
        }
        let mut state = self.state();
        if let Some(user) = state.users.get_mut(&uid) {
            user.services.clear();
        }
        state.footprint.clear(uid)
    }

    /// Ends every daemon and removes everything.
    pub(crate) fn stop(&self) {
        self.end_daemons();
        self.take_back();
    }

    fn end_daemons(&self) {
        let uids: Vec<u32> = self.state().users.keys().copied().collect();
        for uid in uids {
            // What could not be removed was said, and is tried again with everything else.
            drop(self.stop_daemon(uid));
        }
        self.daemons.stop_all();
    }

    /// Removes everything of everybody.
    pub(crate) fn take_back(&self) {
        if let Err(error) = self.state().footprint.clear_all() {
            warn!("Could not take everything back; the journal keeps it: {error}");
        }
    }

    /// Returns as soon as nobody else is at work on the machine.
    pub(crate) fn is_responsive(&self) {
        drop(self.state());
    }

    fn attached_pid(&self, uid: u32) -> Option<u32> {
        let state = self.state();
        let user = state.users.get(&uid).filter(|user| user.is_attached)?;
        u32::try_from(user.pid).ok()
    }

    /// A thread that panicked left a footprint that the journal still describes, so going on is right.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Copies the listeners for a user's daemon, where nothing can be redirected.
fn listeners_of(footprint: &Footprint, uid: u32) -> Result<Option<Vec<Passed>>, FootprintError> {
    let passed = |given: Given<'_>| -> io::Result<Passed> {
        let listener = given.listener.try_clone()?;
        let Given { number, destination, on, .. } = given;
        Ok(Passed { number, destination, on, listener })
    };
    let listeners = footprint.listeners_of(uid);
    let listeners = listeners.map(|given| given.map(passed).collect()).transpose();
    let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0);
    listeners.map_err(|source| ListenError::Listen { address, source }.into())
}

/// Lists what applications send datagrams to.
fn datagram_ports(services: &[Reached], addresses: &[Ipv4Addr]) -> BTreeSet<SocketAddrV4> {
    let placed = services.iter().zip(addresses);
    placed
        .flat_map(|(reached, address)| {
            let udp = reached.ports.iter().filter(|port| port.protocol == Protocol::Udp);
            udp.map(|port| SocketAddrV4::new(*address, port.port.get()))
        })
        .collect()
}

/// Has systemd-resolved ask the laptop's DNS server while it answers. Names of the hosts file need neither.
fn split(footprint: &mut Footprint, is_answered: bool) -> Option<SplitDns> {
    if let Err(error) = footprint.split_dns(is_answered) {
        warn!("systemd-resolved could not be told: {error}");
    }
    let split = match footprint.split_refusal() {
        Some(why) => SplitDns::Refused { why: why.to_owned() },
        None if footprint.is_split() => SplitDns::Asks,
        None => SplitDns::Absent,
    };
    is_answered.then_some(split)
}

impl State {
    /// Removes a user's part; with whoever answers DNS goes what systemd-resolved was told.
    fn clear(&mut self, uid: u32) -> Result<(), FootprintError> {
        self.dns.take_from(uid);
        let unsplit = if self.dns.are_held() { Ok(()) } else { self.footprint.split_dns(false) };
        self.footprint.clear(uid).and(unsplit)
    }

    fn not_taken_back(&self, why: FootprintError) -> NotTakenBack {
        NotTakenBack {
            why,
            left: self.footprint.standing().iter().map(ToString::to_string).collect(),
        }
    }
}

impl User {
    fn new() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        Ok(Self {
            listener,
            attachment: 0,
            pid: 0,
            is_attached: false,
            services: HashSet::new(),
            datagrams: DatagramSockets::default(),
        })
    }

    fn port(&self) -> Port {
        let address = self.listener.local_addr().expect("a bound socket has an address");
        Port::new(address.port()).expect("a bound port is not 0")
    }
}
