//! A laptop in another network: it has another address there, and nobody answers what was sent to the one before.

use std::net::Ipv4Addr;

use fairlead_lab::{Host, Lab};

use crate::command::say;

/// An address that no host of the lab has.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 201);

/// A laptop that was carried away; dropping this brings it home.
#[derive(Debug)]
pub struct Elsewhere<'w> {
    lab: &'w Lab,
    is_home: bool,
}

impl<'w> Elsewhere<'w> {
    /// Carries the laptop away.
    pub fn carried(lab: &'w Lab) -> anyhow::Result<Self> {
        readdress(lab, Host::Laptop.address(), ADDRESS)?;
        Ok(Self { lab, is_home: false })
    }

    /// Brings the laptop home.
    pub fn comes_home(mut self) -> anyhow::Result<()> {
        self.is_home = true;
        readdress(self.lab, ADDRESS, Host::Laptop.address())
    }
}

impl Drop for Elsewhere<'_> {
    fn drop(&mut self) {
        if !self.is_home && readdress(self.lab, ADDRESS, Host::Laptop.address()).is_err() {
            // The lab is going, and its addresses with it.
        }
    }
}

/// Changes the laptop's address. Its routes go with the one it had, and are made again.
fn readdress(lab: &Lab, from: Ipv4Addr, to: Ipv4Addr) -> anyhow::Result<()> {
    let ip = |words: &str| {
        let mut ip = lab.exec(Host::Laptop, "ip");
        ip.args(words.split_whitespace());
        say(ip)?.ok()
    };
    let routes = ip("route show")?.stdout;
    ip(&format!("addr del {from}/24 dev eth0"))?;
    ip(&format!("addr add {to}/24 dev eth0"))?;
    for route in routes.lines().filter(|route| route.contains(" via ")) {
        ip(&format!("route add {route}"))?;
    }
    Ok(())
}
