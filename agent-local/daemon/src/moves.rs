//! What tells that this laptop may be elsewhere than a moment ago: it slept, or it has other addresses.
//!
//! Nothing is concluded from it. Whoever holds a connection asks at once whether it still answers, and whoever waits
//! before trying again tries at once.

use std::{collections::BTreeSet, io, net::IpAddr, os::fd::AsRawFd as _, time::Duration};

use nix::{
    errno::Errno,
    ifaddrs::getifaddrs,
    sys::socket::{AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, socket},
    time::{ClockId, clock_gettime},
};
use tokio::{
    net::UnixDatagram,
    sync::watch,
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tracing::{info, warn};

/// `RTMGRP_IPV4_IFADDR` and `RTMGRP_IPV6_IFADDR`.
const ADDRESS_CHANGES: u32 = 0x10 | 0x100;
/// A sleep is noticed within this time.
const LOOK: Duration = Duration::from_secs(1);
/// Two clocks that are read one after the other differ by much less.
const SLEPT_MIN: Duration = Duration::from_millis(500);
/// Addresses that come and go count as one move within this time. Whoever waits for a connection waits for this, too.
const QUIET: Duration = Duration::from_millis(250);

/// A look-out for moves. Each clone sees each of them that it has not seen yet.
#[derive(Debug, Clone)]
pub(crate) struct Moves(watch::Receiver<u64>);

impl Moves {
    /// Begins to look.
    pub(crate) fn begin() -> Self {
        let (moves_tx, moves_rx) = watch::channel(0);
        tokio::spawn(look_out(moves_tx, slept_since_boot));
        Self(moves_rx)
    }

    /// For tests: the moves are what is sent here.
    #[cfg(test)]
    pub(crate) fn staged() -> (watch::Sender<u64>, Self) {
        let (moves_tx, moves_rx) = watch::channel(0);
        (moves_tx, Self(moves_rx))
    }

    /// Returns one that sees those that are still to come: for what begins where the laptop is now.
    pub(crate) fn anew(&self) -> Self {
        let mut moves = self.0.clone();
        moves.mark_unchanged();
        Self(moves)
    }

    /// Waits for a move that nobody has waited for here.
    pub(crate) async fn next(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending().await
        }
    }

    /// Waits this long, or until the next move; says whether it was one.
    pub(crate) async fn or_after(&mut self, delay: Duration) -> bool {
        timeout(delay, self.next()).await.is_ok()
    }
}

async fn look_out(moves_tx: watch::Sender<u64>, slept: impl Fn() -> Duration) {
    let mut addresses = Addresses::begin()
        .inspect_err(|error| warn!("Changes of this laptop's addresses are not heard: {error}"))
        .ok();
    let mut looks = interval(LOOK);
    // After a sleep one look is enough.
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut asleep = Asleep::until_now(slept());
    loop {
        tokio::select! {
            _ = looks.tick() => match asleep.grown_to(slept()) {
                Some(slept) => info!("This laptop slept for {} s", slept.as_secs()),
                None => continue,
            },
            () = changed(addresses.as_mut()) => info!("This laptop has other addresses"),
            () = moves_tx.closed() => return,
        }
        moves_tx.send_modify(|moves| *moves += 1);
        sleep(QUIET).await;
    }
}

/// How long the machine has slept since it was started.
struct Asleep(Duration);

impl Asleep {
    const fn until_now(slept: Duration) -> Self {
        Self(slept)
    }

    /// Returns how long it has slept since the last look, if it has.
    fn grown_to(&mut self, slept: Duration) -> Option<Duration> {
        let more = slept.saturating_sub(self.0);
        self.0 = slept;
        (more >= SLEPT_MIN).then_some(more)
    }
}

/// The clock since boot goes on while the machine sleeps, the monotonic one does not; nobody sets either.
fn slept_since_boot() -> Duration {
    let read = |clock| clock_gettime(clock).map_or(Duration::ZERO, Duration::from);
    let awake = read(ClockId::CLOCK_MONOTONIC);
    read(ClockId::CLOCK_BOOTTIME).saturating_sub(awake)
}

async fn changed(addresses: Option<&mut Addresses>) {
    match addresses {
        Some(addresses) => addresses.changed().await,
        None => std::future::pending().await,
    }
}

/// The addresses of this machine, and the kernel's word that they change.
struct Addresses {
    /// A netlink socket: what is received from it comes in datagrams as well.
    heard: UnixDatagram,
    known: BTreeSet<IpAddr>,
}

impl Addresses {
    fn begin() -> io::Result<Self> {
        let heard = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
            SockProtocol::NetlinkRoute,
        )?;
        bind(heard.as_raw_fd(), &NetlinkAddr::new(0, ADDRESS_CHANGES))?;
        Ok(Self { heard: UnixDatagram::from_std(heard.into())?, known: addresses() })
    }

    /// Waits until they are others. A router that renews one says so, too, and changes nothing.
    async fn changed(&mut self) {
        // What was said is of no matter, nor that it was more than the socket holds: what counts is what there is.
        let mut said = [0; 4096];
        loop {
            match self.heard.recv(&mut said).await {
                Ok(_) => {}
                Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => {}
                Err(error) => {
                    warn!("Changes of this laptop's addresses are not heard any more: {error}");
                    return std::future::pending().await;
                }
            }
            let found = addresses();
            if found != self.known {
                self.known = found;
                return;
            }
        }
    }
}

/// Returns by which addresses others could be reached; of this machine's own and of links it has anyway.
fn addresses() -> BTreeSet<IpAddr> {
    let Ok(interfaces) = getifaddrs() else { return BTreeSet::new() };
    let addresses = interfaces.filter_map(|interface| {
        let storage = interface.address?;
        let v4 = storage.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
        v4.or_else(|| storage.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
    });
    addresses.filter(|address| leads_out(*address)).collect()
}

fn leads_out(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_link_local(),
        IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    };

    use tokio::time::Instant;

    use super::*;

    #[test]
    fn only_a_sleep_counts_and_each_once() {
        let mut asleep = Asleep::until_now(Duration::from_secs(100));
        assert_eq!(asleep.grown_to(Duration::from_millis(100_001)), None, "two clocks are read");
        assert_eq!(asleep.grown_to(Duration::from_secs(130)), Some(Duration::from_millis(29_999)));
        assert_eq!(asleep.grown_to(Duration::from_secs(130)), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_sleep_is_one_move_which_is_seen_within_a_second() {
        let slept_s = Arc::new(AtomicU64::new(100));
        let clock = Arc::clone(&slept_s);
        let slept = move || Duration::from_secs(clock.load(Ordering::Relaxed));
        let (moves_tx, moves_rx) = watch::channel(0);
        tokio::spawn(look_out(moves_tx, slept));
        let mut moves = Moves(moves_rx);
        assert!(!moves.or_after(LOOK * 10).await, "it is awake");
        slept_s.store(130, Ordering::Relaxed);
        assert!(moves.or_after(LOOK).await);
        assert!(!moves.or_after(LOOK * 10).await, "it counts once");
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_before_trying_again_tries_at_once() {
        let (moves_tx, mut moves) = Moves::staged();
        let long = Duration::from_secs(3600);
        moves_tx.send_modify(|moves| *moves += 1);
        let begun = Instant::now();
        assert!(moves.or_after(long).await);
        assert_eq!(begun.elapsed(), Duration::ZERO);
        assert!(!moves.or_after(long).await, "it counts once");
        moves_tx.send_modify(|moves| *moves += 1);
        assert!(!moves.anew().or_after(long).await, "it was before");
        drop(moves_tx);
        assert!(moves.or_after(long).await);
        assert!(!moves.or_after(long).await);
    }

    #[test]
    fn what_a_machine_has_anyway_is_no_move() {
        for (address, leads) in [
            ("127.0.0.1", false),
            ("::1", false),
            ("fe80::1", false),
            ("169.254.1.1", false),
            ("10.0.0.1", true),
            ("fd00::1", true),
        ] {
            assert_eq!(leads_out(address.parse().expect("valid")), leads, "{address}");
        }
    }
}
