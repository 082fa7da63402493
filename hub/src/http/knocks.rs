//! How often each network has knocked of late: a burst, and then so many a second. Pure; time is an argument.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

use tokio::time::Instant;

/// Sign-ins of a whole office behind one address still fit; guessing 256 bits does not.
pub(super) const BURST: u32 = 200;
/// One more each time this has passed.
const INTERVAL: Duration = Duration::from_millis(50);
/// Beyond this many networks those that have been quiet are forgotten, and if that does not help all of them.
const NETWORKS_MAX: usize = 10_000;

/// For each network, when it may knock a whole burst again.
#[derive(Debug, Default)]
pub(super) struct Knocks(HashMap<IpAddr, Instant>);

impl Knocks {
    /// Counts one knock; tells how long to wait when there were too many.
    pub(super) fn count(&mut self, address: IpAddr, now: Instant) -> Result<(), Duration> {
        let network = network_of(address);
        self.make_room(now);
        let rested_at = self.0.get(&network).map_or(now, |at| (*at).max(now)) + INTERVAL;
        let wait = rested_at.saturating_duration_since(now + INTERVAL * BURST);
        if !wait.is_zero() {
            return Err(wait);
        }
        self.0.insert(network, rested_at);
        Ok(())
    }

    /// Forgets one knock: it was somebody's who is known.
    pub(super) fn forgive(&mut self, address: IpAddr) {
        if let Some(rested_at) = self.0.get_mut(&network_of(address)) {
            *rested_at -= INTERVAL;
        }
    }

    fn make_room(&mut self, now: Instant) {
        if self.0.len() < NETWORKS_MAX {
            return;
        }
        self.0.retain(|_, rested_at| *rested_at > now);
        if self.0.len() >= NETWORKS_MAX {
            self.0.clear();
        }
    }
}

/// One IPv6 customer has a whole /64 of addresses.
pub(super) fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn after_a_burst_a_network_waits_and_the_others_do_not() {
        let (mut knocks, now) = (Knocks::default(), Instant::now());
        let (loud, quiet) = (address("192.0.2.1"), address("192.0.2.2"));
        for _ in 0..BURST {
            assert_eq!(knocks.count(loud, now), Ok(()));
        }
        assert_eq!(knocks.count(loud, now), Err(INTERVAL));
        assert_eq!(knocks.count(quiet, now), Ok(()));
        assert_eq!(knocks.count(loud, now + INTERVAL), Ok(()));
        assert_eq!(knocks.count(loud, now + INTERVAL), Err(INTERVAL));
    }

    #[test]
    fn whoever_turns_out_to_be_known_has_not_knocked() {
        let (mut knocks, now) = (Knocks::default(), Instant::now());
        for _ in 0..=2 * BURST {
            assert_eq!(knocks.count(address("192.0.2.1"), now), Ok(()));
            knocks.forgive(address("192.0.2.1"));
        }
    }

    #[test]
    fn the_addresses_of_one_ipv6_network_count_together() {
        assert_eq!(network_of(address("2001:db8::1")), network_of(address("2001:db8::ffff")));
        assert_ne!(network_of(address("2001:db8::1")), network_of(address("2001:db8:0:1::1")));
    }

    #[test]
    fn the_memory_is_bounded() {
        let (mut knocks, now) = (Knocks::default(), Instant::now());
        for n in 0..=u32::try_from(NETWORKS_MAX).expect("fits") {
            assert_eq!(knocks.count(std::net::Ipv4Addr::from_bits(n).into(), now), Ok(()));
        }
        assert!(knocks.0.len() <= NETWORKS_MAX);
    }
}
