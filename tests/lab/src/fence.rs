//! What may pass between the hosts, and the counters that prove it.
//!
//! The rules stand on the bridge, outside every host: a program that flushes its host's nftables does not touch them,
//! and a dump of the laptop's own rules shows only what Fairlead put there.

use crate::{Host, run};
use anyhow::Context;
use serde::Deserialize;
use std::process::Command;

/// New connections are recognized by SYN without ACK; IPv6 is off between the hosts, so that it is no way around.
const RULES: &str = r#"
table bridge lab {
  counter laptop_to_hub { }
  counter laptop_elsewhere { }
  counter hub_to_laptop_opened { }
  counter hub_to_cluster_opened { }
  counter cluster_to_hub_opened { }
  counter cluster_to_laptop { }

  chain forward {
    type filter hook forward priority 0; policy accept;
    ether type arp accept
    ether type ip6 drop

    iifname "v-laptop" oifname "v-hub" counter name laptop_to_hub accept
    iifname "v-laptop" counter name laptop_elsewhere drop
    iifname { "v-api", "v-node1", "v-node2" } oifname "v-laptop" counter name cluster_to_laptop drop
    iifname "v-hub" oifname "v-laptop" tcp flags & (syn | ack) == syn counter name hub_to_laptop_opened drop

    iifname "v-hub" oifname { "v-api", "v-node1", "v-node2" } tcp flags & (syn | ack) == syn counter name hub_to_cluster_opened drop
    iifname "v-hub" oifname { "v-api", "v-node1", "v-node2" } meta l4proto != tcp counter name hub_to_cluster_opened drop
    iifname { "v-api", "v-node1", "v-node2" } oifname "v-hub" tcp flags & (syn | ack) == syn counter name cluster_to_hub_opened accept
  }
}
"#;

/// How many packets passed, or tried to pass, between the hosts since the lab began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets from the laptop to the hub: all that it may send.
    pub laptop_to_hub: u64,
    /// Packets from the laptop to anywhere else, all dropped.
    pub laptop_elsewhere: u64,
    /// Connections the hub tried to open towards the laptop, all dropped.
    pub hub_to_laptop_opened: u64,
    /// Connections (and packets without one) the hub tried to open towards the cluster, all dropped.
    pub hub_to_cluster_opened: u64,
    /// Connections that the cluster opened towards the hub: the only way they may begin.
    pub cluster_to_hub_opened: u64,
    /// Packets from the cluster to the laptop, all dropped.
    pub cluster_to_laptop: u64,
}

/// Puts up the rules, in the lab's own network.
pub(crate) fn raise() -> anyhow::Result<()> {
    run::feed(Command::new("nft").args(["--file", "-"]), RULES)
        .context("nftables cannot filter on a bridge (module nf_tables_bridge)")?;
    Ok(())
}

/// Puts a rule before all others, by commands that run `nft` in the lab's own network.
pub(crate) fn let_pass(nft: impl Fn() -> Command, from: Host, to: Host) -> anyhow::Result<()> {
    let (from, to) = (from.port(), to.port());
    let rule = ["insert", "rule", "bridge", "lab", "forward", "iifname", &from, "oifname", &to];
    run::output(nft().args(rule).arg("accept"))?;
    Ok(())
}

/// Reads the counters by a command that runs `nft` in the lab's own network.
pub(crate) fn read(mut nft: Command) -> anyhow::Result<Counters> {
    let listing = run::output(nft.args(["--json", "list", "counters", "table", "bridge", "lab"]))?;
    parse(&listing)
}

fn parse(listing: &str) -> anyhow::Result<Counters> {
    #[derive(Deserialize)]
    struct Listing {
        nftables: Vec<Entry>,
    }
    #[derive(Deserialize)]
    struct Entry {
        counter: Option<Counter>,
    }
    #[derive(Deserialize)]
    struct Counter {
        name: String,
        packets: u64,
    }
    let listing: Listing =
        serde_json::from_str(listing).context("nft does not list its counters")?;
    let counters: Vec<_> = listing.nftables.into_iter().filter_map(|entry| entry.counter).collect();
    let packets = |name: &str| {
        let counter = counters.iter().find(|counter| counter.name == name);
        counter
            .map(|counter| counter.packets)
            .with_context(|| format!("nft has no counter `{name}`"))
    };
    Ok(Counters {
        laptop_to_hub: packets("laptop_to_hub")?,
        laptop_elsewhere: packets("laptop_elsewhere")?,
        hub_to_laptop_opened: packets("hub_to_laptop_opened")?,
        hub_to_cluster_opened: packets("hub_to_cluster_opened")?,
        cluster_to_hub_opened: packets("cluster_to_hub_opened")?,
        cluster_to_laptop: packets("cluster_to_laptop")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_counter_is_an_error_and_not_zero() {
        let one = r#"{"nftables":[{"metainfo":{}},{"counter":{"name":"laptop_to_hub","packets":3,"bytes":9}}]}"#;
        assert!(parse(one).unwrap_err().to_string().contains("laptop_elsewhere"));
    }
}
