//! Links that are cut while carriers live: nothing passes between the laptop or the agent and the port of the hub at
//! which they have their links. Carriers have another port, and the owner comes from another host.

use std::{
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::ensure;
use fairlead_lab::{Host, Lab};
use fairlead_tests::{HUB_PORTS, say};

/// The agent is a process of the hub's host.
const CUT: [(Host, &str); 2] = [(Host::Laptop, "eth0"), (Host::Hub, "lo")];
const PATIENCE: Duration = Duration::from_secs(5);

/// Dropping it leaves them cut: then the lab is going.
pub(super) struct LinksDown<'w>(&'w Lab);

impl<'w> LinksDown<'w> {
    pub(super) fn cut(lab: &'w Lab) -> anyhow::Result<Self> {
        let [port, raw] = HUB_PORTS;
        for (host, device) in CUT {
            nft(
                lab,
                host,
                &format!(
                    "table inet unlinked {{ \
                 chain out {{ type filter hook output priority 0; \
                 oifname {device} tcp dport {port} reject with tcp reset; \
                 oifname {device} tcp sport {port} reject with tcp reset; }}; \
                 chain in {{ type filter hook input priority 0; \
                 iifname {device} tcp sport {port} reject with tcp reset; }}; }}"
                ),
            )?;
            ensure!(!reaches(lab, host, port)?, "links of {host} are not cut");
            ensure!(reaches(lab, host, raw)?, "carriers of {host} are cut, too");
        }
        Ok(Self(lab))
    }

    pub(super) fn mend(self) -> anyhow::Result<()> {
        CUT.iter().try_for_each(|(host, _)| nft(self.0, *host, "delete table inet unlinked"))
    }
}

fn nft(lab: &Lab, host: Host, rules: &str) -> anyhow::Result<()> {
    let mut nft = lab.exec(host, "nft");
    nft.arg(rules);
    say(nft)?.ok()?;
    Ok(())
}

fn reaches(lab: &Lab, host: Host, port: u16) -> anyhow::Result<bool> {
    let hub = SocketAddr::from((Host::Hub.address(), port));
    let tried = lab.on(host, move || TcpStream::connect_timeout(&hub, PATIENCE).is_ok())?;
    Ok(tried.join().expect("connecting does not panic"))
}
