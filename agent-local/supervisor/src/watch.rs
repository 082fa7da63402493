//! Hears that another program wrote the hosts file, changed the kernel's ruleset or deleted our link, and has it looked
//! at.
//!
//! What they wrote is not read here, nor is what the kernel says about it: any word of theirs is a reason to look, and
//! only the footprint knows what should stand. Where the kernel tells nothing, the daemon's own proof notices.

use std::{
    ffi::OsStr,
    fs,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        inotify::{AddWatchFlags, InitFlags, Inotify},
        socket::{
            AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv,
            socket,
        },
    },
};
use tracing::warn;

use crate::machine::Machine;

/// The kernel's group of those who hear of changes to nftables (NFNLGRP_NFTABLES).
const RULESET_CHANGES: u32 = 1 << (7 - 1);
/// The kernel's group of those who hear of network links (RTMGRP_LINK).
const LINK_CHANGES: u32 = 1;
/// Programs that change rules change many at a time.
const SETTLE: Duration = Duration::from_millis(250);

/// Looks after every change, in a thread of its own, for as long as the process lives.
pub(crate) fn begin(hosts: PathBuf, machine: Arc<Machine>) {
    let heard = |what: &str, error: Errno| {
        warn!("Changes of {what} by other programs are noticed late: {error}");
    };
    let hosts = HostsWatch::new(hosts).inspect_err(|error| heard("the hosts file", *error)).ok();
    let hear = |what, protocol, group| {
        changes(protocol, group).inspect_err(|error| heard(what, *error)).ok()
    };
    let rules = hear("the ruleset", SockProtocol::NetlinkNetFilter, RULESET_CHANGES);
    let links = hear("network links", SockProtocol::NetlinkRoute, LINK_CHANGES);
    thread::spawn(move || {
        let mut patience = None;
        loop {
            let changes =
                Changes { hosts: hosts.as_ref(), rules: rules.as_ref(), links: links.as_ref() };
            changes.wait(&machine, patience);
            thread::sleep(SETTLE);
            for said in rules.iter().chain(&links) {
                forget(said);
            }
            if let Some(hosts) = &hosts {
                hosts.begin_again();
            }
            patience = machine.put_back(Instant::now());
        }
    });
}

/// Where it is heard that somebody changed something.
struct Changes<'w> {
    hosts: Option<&'w HostsWatch>,
    rules: Option<&'w OwnedFd>,
    links: Option<&'w OwnedFd>,
}

impl Changes<'_> {
    /// Waits until somebody changed something of ours, or patience ends.
    fn wait(&self, machine: &Machine, patience: Option<Duration>) {
        let Self { hosts, rules, links } = *self;
        let deadline = patience.map(|patience| Instant::now() + patience);
        loop {
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            let timeout = left.map_or(PollTimeout::NONE, |left| {
                PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
            });
            let hosts_heard = hosts.map(|hosts| hosts.inotify.as_fd());
            let descriptors = [hosts_heard, rules.map(AsFd::as_fd), links.map(AsFd::as_fd)];
            let mut polled: Vec<PollFd<'_>> =
                descriptors.into_iter().flatten().map(readable).collect();
            // A signal is for the thread that waits for signals.
            if matches!(poll(&mut polled, timeout), Ok(0)) {
                return;
            }
            let has_ruled = rules.is_some_and(forget);
            // Links come and go with every container: only ours is a reason to look at everything.
            let has_unlinked = links.is_some_and(forget) && machine.lacks_link();
            if has_ruled || has_unlinked || hosts.is_some_and(HostsWatch::was_written) {
                return;
            }
        }
    }
}

fn readable(descriptor: BorrowedFd<'_>) -> PollFd<'_> {
    PollFd::new(descriptor, PollFlags::POLLIN)
}

/// Returns what the kernel says to this group.
fn changes(protocol: SockProtocol, group: u32) -> nix::Result<OwnedFd> {
    let changes = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        protocol,
    )?;
    bind(changes.as_raw_fd(), &NetlinkAddr::new(0, group))?;
    Ok(changes)
}

/// Throws away what was said, and says whether it was anything; that more was said than the socket holds counts, too.
fn forget(changes: &OwnedFd) -> bool {
    let (mut said, mut was_any) = ([0; 4096], false);
    loop {
        match recv(changes.as_raw_fd(), &mut said, MsgFlags::empty()) {
            Ok(_) | Err(Errno::ENOBUFS) => was_any = true,
            Err(_) => return was_any,
        }
    }
}

/// The hosts file and the folders in which a new one may take its place.
struct HostsWatch {
    path: PathBuf,
    inotify: Inotify,
}

impl HostsWatch {
    fn new(path: PathBuf) -> nix::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let watch = Self { path, inotify };
        watch.begin_again();
        Ok(watch)
    }

    /// Watches whatever stands at the path at this moment; a second time changes nothing.
    fn begin_again(&self) {
        let written = AddWatchFlags::IN_CLOSE_WRITE;
        let replaced = written | AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_DELETE;
        let real = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        for path in [&self.path, &real] {
            if let Some(folder) = path.parent() {
                self.watch(folder, replaced);
            }
        }
        // Of a file that is a mount of its own, its folder hears nothing.
        self.watch(&real, written);
    }

    fn watch(&self, path: &Path, events: AddWatchFlags) {
        match self.inotify.add_watch(path, events) {
            // It is being replaced; its folder tells when there is one again.
            Ok(_) | Err(Errno::ENOENT) => {}
            Err(error) => warn!("Could not watch {}: {error}", path.display()),
        }
    }

    fn was_written(&self) -> bool {
        let ours: Option<&OsStr> = self.path.file_name();
        let mut was_written = false;
        while let Ok(events) = self.inotify.read_events() {
            // An event of the file itself has no name.
            was_written |=
                events.iter().any(|event| event.name.is_none() || event.name.as_deref() == ours);
        }
        was_written
    }
}
