//! Hosts outside the cluster: its DNS says where they are. What it says must be no way around what was decided: into this
//! pod, to what only answers the node (the cloud's metadata above all), or back into the cluster, whose services have
//! decisions of their own.
//!
//! A name is asked once per connection, and only addresses that were looked at are dialled.

use std::{
    future::Future,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    pin::Pin,
};

use fairlead_model::{HostName, Port};
use fairlead_wire::open::Refusal;
use tokio::{net::lookup_host, sync::watch, time::timeout};

use crate::{consume::CONNECT, watch::Inventory};

/// Of more addresses the others are not dialled.
const ADDRESSES_MAX: usize = 16;

/// Where clouds answer their machines elsewhere than at a link-local address: AWS, Google (both IPv6), Azure, Alibaba,
/// Oracle.
const OF_CLOUDS: [IpAddr; 5] = [
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
];

pub(crate) type Found = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;

/// What tells outside from inside.
#[derive(Clone)]
pub(crate) struct Border {
    pub(crate) inventory: watch::Receiver<Inventory>,
    /// The address of this pod.
    pub(crate) own: IpAddr,
    pub(crate) cluster_domain: String,
    pub(crate) lookup: fn(HostName) -> Found,
}

impl Border {
    /// Returns where a host can be dialled, or why it must not be.
    pub(crate) async fn addresses(
        &self,
        host: &HostName,
        port: Port,
    ) -> Result<Vec<SocketAddr>, (Refusal, String)> {
        if host.is_in(&self.cluster_domain) {
            let reason = format!("{host} is a name of the cluster itself: consume its service");
            return Err((Refusal::NotAllowed, reason));
        }
        let found = match timeout(CONNECT, (self.lookup)(host.clone())).await {
            Ok(Ok(found)) if !found.is_empty() => found,
            Ok(Ok(_)) => return Err(unknown(host, "it has no address")),
            Ok(Err(error)) => return Err(unknown(host, &error.to_string())),
            Err(_) => return Err(unknown(host, "no answer came in time")),
        };
        // All of them: a name that leads to both sides is meant to deceive.
        let inventory = self.inventory.borrow();
        for ip in &found {
            if let Some(why) = refusal(*ip, self.own, &inventory) {
                return Err((Refusal::NotAllowed, format!("{host} is at {ip}: {why}")));
            }
        }
        let dialled = found.into_iter().take(ADDRESSES_MAX);
        Ok(dialled.map(|ip| SocketAddr::new(ip, port.get())).collect())
    }
}

fn unknown(host: &HostName, why: &str) -> (Refusal, String) {
    (Refusal::Unreachable, format!("{host} is not resolved by the cluster's DNS: {why}"))
}

/// Asks as this pod asks for every name; in full, so that none of its search domains makes a service of it.
pub(crate) fn by_this_pod(host: HostName) -> Found {
    Box::pin(async move {
        let found = lookup_host((format!("{host}."), 0)).await?;
        Ok(found.map(|address| address.ip()).collect())
    })
}

fn refusal(ip: IpAddr, own: IpAddr, inventory: &Inventory) -> Option<String> {
    let ip = meant_by(ip);
    if ip == own || ip.is_loopback() || is_this_network(ip) {
        return Some("that is the agent's own pod".to_owned());
    }
    if is_link_local(ip) || OF_CLOUDS.contains(&ip) {
        return Some("there the node is answered, and nobody else may ask".to_owned());
    }
    if is_nobody(ip) {
        return Some("that is no host's address".to_owned());
    }
    let service = inventory.whose(ip)?;
    Some(format!("that is {service} of the cluster itself, which is consumed by that name"))
}

/// Returns the IPv4 address that one of IPv6 stands for: mapped, compatible, or behind NAT64 or 6to4.
fn meant_by(ip: IpAddr) -> IpAddr {
    let IpAddr::V6(six) = ip else { return ip };
    if six.is_loopback() || six.is_unspecified() {
        return ip;
    }
    let four = match six.segments() {
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            [high, low]
        }
        [0x2002, high, low, ..] => [high, low],
        _ => return ip,
    };
    let [[a, b], [c, d]] = four.map(u16::to_be_bytes);
    Ipv4Addr::new(a, b, c, d).into()
}

/// Connections to it stay on the machine.
fn is_this_network(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.octets()[0] == 0,
        IpAddr::V6(ip) => ip.is_unspecified(),
    }
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

/// Multicast, broadcast, and what is reserved.
fn is_nobody(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.octets()[0] >= 224,
        IpAddr::V6(ip) => ip.is_multicast(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{made_up, names};

    const OWN: &str = "10.244.1.7";

    fn inventory() -> Inventory {
        let slice = made_up::slice(names::MANAGED_BY_CLUSTER, "", &["10.244.2.9"]);
        let cart = json!({
            "metadata": {"namespace": "shop", "name": "cart"},
            "spec": {
                "clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7", "fd96::7"],
                "externalIPs": ["203.0.113.5"],
            },
            "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.6"}]}},
        });
        Inventory::of(vec![made_up::seen(cart)], vec![made_up::slice_seen(slice, "nobody")])
    }

    fn refused(ip: &str) -> Option<String> {
        refusal(ip.parse().expect("an address"), OWN.parse().expect("an address"), &inventory())
    }

    #[track_caller]
    fn are_refused(addresses: &[&str], why: &str) {
        for ip in addresses {
            let said = refused(ip).unwrap_or_default();
            assert!(said.contains(why), "{ip}: {said}");
        }
    }

    #[test]
    fn the_agents_own_pod_is_not_outside() {
        let own = [OWN, "127.0.0.1", "127.72.1.2", "::1", "0.0.0.0", "0.1.2.3", "::"];
        are_refused(&own, "own pod");
        are_refused(&["::ffff:127.0.0.1", "::127.0.0.1", "::ffff:10.244.1.7"], "own pod");
    }

    #[test]
    fn what_answers_only_the_node_is_not_outside() {
        are_refused(&["169.254.169.254", "169.254.0.1", "fe80::1", "febf::1"], "the node");
        are_refused(&["168.63.129.16", "100.100.100.200", "192.0.0.192"], "the node");
        are_refused(&["fd00:ec2::254", "fd20:ce::254"], "the node");
        let hidden = ["::ffff:169.254.169.254", "64:ff9b::169.254.169.254", "2002:a9fe:a9fe::1"];
        are_refused(&hidden, "the node");
    }

    #[test]
    fn what_is_no_hosts_address_is_not_outside() {
        are_refused(&["224.0.0.1", "239.1.2.3", "240.0.0.1", "255.255.255.255"], "no host's");
        are_refused(&["ff02::1", "ff0e::1"], "no host's");
    }

    #[test]
    fn the_clusters_own_services_and_pods_are_not_outside() {
        let of_cart = ["10.96.0.7", "fd96::7", "203.0.113.5", "203.0.113.6", "10.244.2.9"];
        are_refused(&of_cart, "that is shop/cart");
        are_refused(&["::ffff:10.96.0.7"], "that is shop/cart");
    }

    #[test]
    fn everything_else_is_outside() {
        for ip in ["203.0.113.7", "10.0.0.5", "192.168.1.1", "172.16.0.1", "100.64.0.1"] {
            assert_eq!(refused(ip), None, "{ip}");
        }
        for ip in ["2001:db8::1", "fd12::1", "64:ff9b::203.0.113.7", "::ffff:203.0.113.7"] {
            assert_eq!(refused(ip), None, "{ip}");
        }
    }

    fn border(lookup: fn(HostName) -> Found) -> Border {
        Border {
            inventory: watch::channel(inventory()).1,
            own: OWN.parse().expect("an address"),
            cluster_domain: "corp.internal".to_owned(),
            lookup,
        }
    }

    async fn asked(host: &str, lookup: fn(HostName) -> Found) -> Result<String, String> {
        let (host, port) = (host.parse().expect("valid"), Port::new(5432).expect("not 0"));
        let addresses = border(lookup).addresses(&host, port).await;
        addresses.map(|all| format!("{all:?}")).map_err(|(_, reason)| reason)
    }

    #[tokio::test]
    async fn a_host_is_dialled_at_the_addresses_that_were_looked_at() {
        let both: fn(HostName) -> Found = |_| {
            Box::pin(async {
                Ok(["203.0.113.7", "2001:db8::1"].map(|ip| ip.parse().expect("one")).into())
            })
        };
        let addresses = asked("db.example.net", both).await;
        assert_eq!(addresses.as_deref(), Ok("[203.0.113.7:5432, [2001:db8::1]:5432]"));
    }

    #[tokio::test]
    async fn one_address_inside_spoils_those_outside() {
        let both: fn(HostName) -> Found = |_| {
            Box::pin(async {
                Ok(["203.0.113.7", "10.96.0.7"].map(|ip| ip.parse().expect("one")).into())
            })
        };
        let refused = asked("db.example.net", both).await.expect_err("refused");
        assert!(
            refused.starts_with("db.example.net is at 10.96.0.7: that is shop/cart"),
            "{refused}"
        );
    }

    #[tokio::test]
    async fn a_name_of_the_cluster_is_not_even_asked_for() {
        let never: fn(HostName) -> Found = |host| panic!("{host} was asked for");
        let refused = asked("cart.shop.svc.corp.internal", never).await.expect_err("refused");
        assert!(refused.contains("a name of the cluster"), "{refused}");
    }

    #[tokio::test]
    async fn a_name_without_an_address_says_so() {
        for (lookup, why) in [
            ((|_| Box::pin(async { Ok(Vec::new()) })) as fn(HostName) -> Found, "no address"),
            (|_| Box::pin(async { Err(io::Error::other("no such name")) }), "no such name"),
        ] {
            let refused = asked("db.example.net", lookup).await.expect_err("refused");
            assert!(refused.contains("not resolved") && refused.contains(why), "{refused}");
        }
    }
}
