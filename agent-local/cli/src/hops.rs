//! The hops of a trace that the command itself goes, as any program of this user would: the name, and the answer to a
//! request.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use laptop_footprint::MARK;
use laptop_ipc::{
    FailureKind,
    trace::{Hop, Place},
};
use reqwest::{Client, Url, redirect::Policy};
use tokio::{net::lookup_host, time::timeout};

/// As long as a resolver tries its second server.
const RESOLVE_MAX: Duration = Duration::from_secs(10);
const ANSWER_MAX: Duration = Duration::from_secs(15);

/// Resolves a name, which must lead to this address.
pub(crate) async fn name(name: &str, address: Ipv4Addr) -> Hop {
    let begun = Instant::now();
    let found = match timeout(RESOLVE_MAX, lookup_host((name, 0))).await {
        Ok(Ok(found)) => Ok(found.map(|found| found.ip()).collect()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} s", RESOLVE_MAX.as_secs())),
    };
    let hosts = tokio::fs::read_to_string("/etc/hosts").await.unwrap_or_default();
    judged(name, address, &found, has_line(&hosts, name, address), begun.elapsed())
}

fn judged(
    name: &str,
    address: Ipv4Addr,
    found: &Result<Vec<IpAddr>, String>,
    has_line: bool,
    took: Duration,
) -> Hop {
    let wrong = match found.as_deref() {
        Ok([first, ..]) if *first == address => {
            return Hop::passed(Place::Name, Some(took), format!("{name} is {address}"));
        }
        Ok([first, ..]) => format!("{name} is {first}, not {address}"),
        Ok([]) => format!("{name} has no address"),
        Err(why) => format!("{name} cannot be resolved ({why})"),
    };
    let (because, advice) = if has_line {
        (", though /etc/hosts has it", "see what is asked before the hosts file: fairlead doctor")
    } else {
        (
            ": /etc/hosts has no line of ours for it",
            "a line of another hand that has the name is left alone: remove it, or use another of the service's names",
        )
    };
    Hop::failed(Place::Name, FailureKind::LaptopNetwork, format!("{wrong}{because}"), advice)
}

fn has_line(hosts: &str, name: &str, address: Ipv4Addr) -> bool {
    hosts.lines().filter_map(|line| line.strip_suffix(MARK)).any(|line| {
        let mut words = line.split_whitespace();
        words.next() == Some(&address.to_string()) && words.any(|word| word == name)
    })
}

/// Asks for an answer at this address, past all proxies, and follows no redirect.
pub(crate) async fn answer(url: &Url, address: Ipv4Addr) -> Hop {
    let at = Place::Answer;
    let advice =
        "what is said on a connection is the service's own affair: ask its owner, or read its log";
    let failed = |why: String| {
        Hop::failed(
            at,
            FailureKind::Unproven,
            format!("no answer to GET {}: {why}", url.path()),
            advice,
        )
    };
    let client = Client::builder()
        .no_proxy()
        .redirect(Policy::none())
        .resolve(url.host_str().unwrap_or_default(), SocketAddr::new(address.into(), 0))
        .timeout(ANSWER_MAX)
        .user_agent(concat!("fairlead/", env!("CARGO_PKG_VERSION")))
        .build();
    let client = match client {
        Ok(client) => client,
        Err(error) => return failed(innermost(&error)),
    };
    let begun = Instant::now();
    match client.get(url.clone()).send().await {
        Ok(answer) => {
            let message = format!("GET {} is answered with {}", url.path(), answer.status());
            Hop::passed(at, Some(begun.elapsed()), message)
        }
        Err(error) if error.is_timeout() => {
            failed(format!("none within {} s", ANSWER_MAX.as_secs()))
        }
        Err(error) => failed(innermost(&error)),
    }
}

fn innermost(error: &reqwest::Error) -> String {
    let mut last: &dyn std::error::Error = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    last.to_string()
}

#[cfg(test)]
mod tests {
    use laptop_ipc::trace::Outcome;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    const CART: Ipv4Addr = Ipv4Addr::new(127, 72, 1, 2);

    #[test]
    fn a_name_must_lead_to_us_first() {
        let judge = |found: &[&str], has_line| {
            let found = found.iter().map(|ip| ip.parse().expect("an address")).collect();
            judged("cart.shop", CART, &Ok(found), has_line, Duration::from_millis(1))
        };
        assert!(judge(&["127.72.1.2", "::1"], true).has_passed());
        for (found, has_line, said) in [
            (&["10.0.0.1", "127.72.1.2"][..], true, "10.0.0.1, not 127.72.1.2, though"),
            (&["10.0.0.1"], false, "not 127.72.1.2: /etc/hosts has no line"),
            (&[], false, "has no address"),
        ] {
            let hop = judge(found, has_line);
            assert!(!hop.has_passed() && hop.message.contains(said), "{hop:?}");
        }
        let none = judged("x", CART, &Err("no such host".to_owned()), false, Duration::ZERO);
        assert!(none.message.contains("(no such host)"), "{none:?}");
    }

    #[test]
    fn only_a_line_of_ours_with_the_name_and_the_address_counts() {
        let hosts = "127.72.1.2 cart cart.shop # fairlead\n127.72.1.3 pay.shop\n";
        assert!(has_line(hosts, "cart.shop", CART));
        assert!(!has_line(hosts, "cart.sho", CART));
        assert!(!has_line(hosts, "cart.shop", Ipv4Addr::new(127, 72, 1, 3)));
        assert!(!has_line(hosts, "pay.shop", Ipv4Addr::new(127, 72, 1, 3)));
    }

    #[tokio::test]
    async fn a_request_goes_to_the_address_and_no_further() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let port = listener.local_addr().expect("bound").port();
        let url: Url = format!("http://cart.shop.invalid:{port}/a?b").parse().expect("valid");
        let (hop, ()) = tokio::join!(answer(&url, Ipv4Addr::LOCALHOST), async {
            let (mut tcp, _) = listener.accept().await.expect("asked");
            let mut head = [0; 1024];
            let read = tcp.read(&mut head).await.expect("read");
            assert!(head[..read].starts_with(b"GET /a?b HTTP/1.1\r\n"));
            let elsewhere =
                b"HTTP/1.1 302 Found\r\nlocation: http://x.invalid/\r\ncontent-length: 0\r\n\r\n";
            tcp.write_all(elsewhere).await.expect("written");
        });
        assert!(hop.has_passed() && hop.message.contains("GET /a is answered with 302"), "{hop:?}");

        drop(listener);
        let hop = answer(&url, Ipv4Addr::LOCALHOST).await;
        assert!(matches!(hop.outcome, Outcome::Failed { .. }), "{hop:?}");
        assert!(hop.message.contains("refused"), "{hop:?}");
    }
}
