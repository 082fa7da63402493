//! Where a request comes from: the other end of its connection, or whom a trusted proxy there speaks for.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use axum::{
    extract::{ConnectInfo, Request, State},
    http::{Extensions, HeaderMap},
    middleware::Next,
    response::Response,
};
use ipnet::IpNet;

use super::knocks;

const FORWARDED_FOR: &str = "x-forwarded-for";

/// The address of whoever asks, as far as it can be believed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Visitor(IpAddr);

/// Networks of proxies that are believed.
pub(super) type Trusted = Arc<[IpNet]>;

/// Finds out where a request comes from, once, for everybody who asks afterwards.
pub(super) async fn recognize(
    State(trusted): State<Trusted>,
    mut request: Request,
    next: Next,
) -> Response {
    let connection = request.extensions().get::<ConnectInfo<SocketAddr>>();
    if let Some(ConnectInfo(peer)) = connection {
        let visitor = Visitor(comes_from(peer.ip(), request.headers(), &trusted));
        request.extensions_mut().insert(visitor);
    }
    next.run(request).await
}

/// Returns where the request comes from; unknown where a test calls the router itself.
pub(crate) fn address_of(request: &Extensions) -> Option<IpAddr> {
    request.get::<Visitor>().map(|visitor| visitor.0)
}

/// Returns whose addresses count as one; unknown as above.
pub(crate) fn network_of(request: &Extensions) -> Option<IpAddr> {
    address_of(request).map(knocks::network_of)
}

/// What is known of a request from `address`.
#[cfg(test)]
pub(crate) fn coming_from(address: IpAddr) -> Extensions {
    let mut request = Extensions::new();
    request.insert(Visitor(address));
    request
}

/// Goes back from hop to hop, as long as the nearer hop is trusted to say who was before it.
fn comes_from(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let lines = headers.get_all(FORWARDED_FOR).iter().map(|line| line.to_str().unwrap_or_default());
    let hops: Vec<&str> = lines.flat_map(|line| line.split(',')).collect();
    let mut nearest = peer.to_canonical();
    for hop in hops.iter().rev() {
        if !trusted.iter().any(|network| network.contains(&nearest)) {
            break;
        }
        // What is no address was not written by a proxy that knows its business.
        let Some(before) = read(hop.trim()) else { break };
        nearest = before;
    }
    nearest
}

/// Reads an address; some proxies write the port as well.
fn read(hop: &str) -> Option<IpAddr> {
    let bare = hop.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(hop);
    let address = bare.parse().ok();
    let address = address.or_else(|| Some(hop.parse::<SocketAddr>().ok()?.ip()));
    address.map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROXY: &str = "10.0.0.7";

    fn found(peer: &str, lines: &[&'static str]) -> String {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(FORWARDED_FOR, line.parse().expect("a value"));
        }
        let trusted = ["10.0.0.0/8", "fd00::/8"].map(|network| network.parse().expect("a network"));
        comes_from(peer.parse().expect("an address"), &headers, &trusted).to_string()
    }

    #[test]
    fn nobody_else_says_where_they_come_from() {
        assert_eq!(found("203.0.113.9", &["198.51.100.1"]), "203.0.113.9");
        assert_eq!(found("203.0.113.9", &[]), "203.0.113.9");
    }

    #[test]
    fn a_trusted_proxy_says_who_was_before_it() {
        assert_eq!(found(PROXY, &["198.51.100.1"]), "198.51.100.1");
        assert_eq!(found(PROXY, &[]), PROXY);
        assert_eq!(found("::ffff:10.0.0.7", &["198.51.100.1"]), "198.51.100.1");
        assert_eq!(found("fd00::1", &["2001:db8::5"]), "2001:db8::5");
    }

    #[test]
    fn what_somebody_wrote_before_they_came_to_a_proxy_is_not_believed() {
        assert_eq!(found(PROXY, &["10.9.9.9, 198.51.100.1"]), "198.51.100.1");
        assert_eq!(found(PROXY, &["1.1.1.1", "198.51.100.1, 10.0.0.8"]), "198.51.100.1");
        assert_eq!(found(PROXY, &["198.51.100.1, unknown"]), PROXY);
    }

    #[test]
    fn a_port_is_no_part_of_the_address() {
        assert_eq!(found(PROXY, &["198.51.100.1:4711"]), "198.51.100.1");
        assert_eq!(found(PROXY, &["[2001:db8::5]:4711"]), "2001:db8::5");
        assert_eq!(found(PROXY, &["[2001:db8::5]"]), "2001:db8::5");
    }
}
