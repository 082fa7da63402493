//! A pulled cable: every packet of a host is dropped in silence, both ways; addresses and routes stay.

use std::time::Instant;

use fairlead_lab::{Host, Lab};

use crate::command::say;

const TABLE: &str = "table inet cut {
    chain before {
        type filter hook prerouting priority -400
        iifname eth0 drop
    }
    chain after {
        type filter hook postrouting priority 400
        oifname eth0 drop
    }
}";

/// A host without a network; dropping this mends it.
#[derive(Debug)]
pub struct Cut<'w> {
    lab: &'w Lab,
    host: Host,
    since: Instant,
    is_mended: bool,
}

impl<'w> Cut<'w> {
    /// Cuts a host off.
    pub fn off(lab: &'w Lab, host: Host) -> anyhow::Result<Self> {
        let mut nft = lab.exec(host, "nft");
        nft.arg(TABLE);
        say(nft)?.ok()?;
        Ok(Self { lab, host, since: Instant::now(), is_mended: false })
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
        nft.args(["delete", "table", "inet", "cut"]);
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
