//! How often somebody who has not proven who they are may knock.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    num::NonZeroU32,
    sync::Arc,
};

use axum::{
    extract::{ConnectInfo, Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use governor::{DefaultKeyedRateLimiter, Quota, clock::Clock};

use super::error::Problem;

/// Sign-ins of a whole office behind one address still fit; guessing 256 bits does not.
const PER_SECOND: NonZeroU32 = NonZeroU32::new(20).expect("not 0");
const BURST: NonZeroU32 = NonZeroU32::new(200).expect("not 0");
/// Beyond this many addresses the idle ones are forgotten.
const ADDRESSES_MAX: usize = 10_000;

/// The paths that answer without a credential, or exchange one.
const OPEN_PATHS: [&str; 5] =
    ["/login", "/oauth/", "/api/v1/setup", "/recover", "/fairlead.link.v1.ClusterLinks/Enrol"];

/// Counts the requests of strangers by where they come from.
#[derive(Clone, Debug)]
pub(super) struct Strangers(Arc<DefaultKeyedRateLimiter<IpAddr>>);

impl Strangers {
    pub(super) fn new() -> Self {
        Self(Arc::new(DefaultKeyedRateLimiter::keyed(
            Quota::per_second(PER_SECOND).allow_burst(BURST),
        )))
    }

    /// Counts one request; tells how many seconds to wait when there were too many.
    fn count(&self, address: IpAddr) -> Result<(), u64> {
        if self.0.len() > ADDRESSES_MAX {
            self.0.retain_recent();
        }
        self.0.check_key(&network_of(address)).map_err(|until| {
            until.wait_time_from(governor::clock::DefaultClock::default().now()).as_secs() + 1
        })
    }
}

pub(super) async fn limit_strangers(
    State(strangers): State<Strangers>,
    request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path();
    if !OPEN_PATHS.iter().any(|open| path.starts_with(open)) {
        return next.run(request).await;
    }
    let connection = request.extensions().get::<ConnectInfo<SocketAddr>>();
    let address = connection.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |c| c.0.ip());
    match strangers.count(address) {
        Ok(()) => next.run(request).await,
        Err(seconds) => Problem::too_many_requests(seconds).into_response(),
    }
}

/// One IPv6 customer has a whole /64 of addresses.
fn network_of(address: IpAddr) -> IpAddr {
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

    #[test]
    fn a_stranger_who_knocks_too_often_is_told_to_wait() {
        let strangers = Strangers::new();
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let refused = (0..=BURST.get() * 2).find_map(|_| strangers.count(address).err());
        assert!(refused.is_some_and(|seconds| seconds >= 1));
        assert!(strangers.count("192.0.2.1".parse().expect("an address")).is_ok());
    }

    #[test]
    fn the_addresses_of_one_ipv6_network_count_together() {
        let one: IpAddr = "2001:db8::1".parse().expect("an address");
        let other: IpAddr = "2001:db8::ffff".parse().expect("an address");
        assert_eq!(network_of(one), network_of(other));
    }
}
