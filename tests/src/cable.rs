//! A pulled cable: packets of a host are dropped in silence, both ways; addresses and routes stay. A long
//! cable (`Wan`) is cut with it.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Instant,
};

use fairlead_lab::{Host, Lab};

use crate::command::say;

/// The host's own, and long ones.
const CABLES: &str = r#"{ "eth0", "wan*" }"#;

/// A host without a network, or with a bad one; dropping this mends it.
#[derive(Debug)]
pub struct Cut<'w> {
    lab: &'w Lab,
    host: Host,
    table: String,
    since: Instant,
    is_mended: bool,
}

impl<'w> Cut<'w> {
    /// Cuts a host off.
    pub fn off(lab: &'w Lab, host: Host) -> anyhow::Result<Self> {
        Self::between(lab, host, &[], 100)
    }

    /// Loses so many per cent of the packets between a host and some addresses; all of its packets where none is named.
    pub fn between(
        lab: &'w Lab,
        host: Host,
        others: &[String],
        lost_percent: u8,
    ) -> anyhow::Result<Self> {
        // Several may be there at a time.
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let table = format!("cut{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let which = |end: &str| match others {
            [] => String::new(),
            others => format!("ip {end} {{ {} }}", others.join(", ")),
        };
        let lost = match lost_percent {
            100.. => String::new(),
            some => format!("numgen random mod 100 < {some}"),
        };
        let mut nft = lab.exec(host, "nft");
        nft.arg(format!(
            "table inet {table} {{
                chain before {{
                    type filter hook prerouting priority -400
                    iifname {CABLES} {} {lost} drop
                }}
                chain after {{
                    type filter hook postrouting priority 400
                    oifname {CABLES} {} {lost} drop
                }}
            }}",
            which("saddr"),
            which("daddr")
        ));
        say(nft)?.ok()?;
        Ok(Self { lab, host, table, since: Instant::now(), is_mended: false })
    }

    /// Returns the moment from which on nothing passed.
    #[must_use]
    pub const fn since(&self) -> Instant {
        self.since
    }

    /// Lets everything pass again.
    pub fn mend(mut self) -> anyhow::Result<()> {
        self.is_mended = true;
        self.take_away()
    }

    fn take_away(&self) -> anyhow::Result<()> {
        let mut nft = self.lab.exec(self.host, "nft");
        nft.args(["delete", "table", "inet", &self.table]);
        say(nft)?.ok()?;
        Ok(())
    }
}

impl Drop for Cut<'_> {
    fn drop(&mut self) {
        if !self.is_mended && self.take_away().is_err() {
            // The lab is going, and its tables with it.
        }
    }
}
