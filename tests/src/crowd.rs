//! Many people on one laptop. To the hub each of them is a laptop of its own, with an address of its own: the hub counts
//! strangers by where they come from, and an office of a hundred signs in more slowly than a hundred homes.

use std::{
    collections::BTreeMap,
    fs,
    net::Ipv4Addr,
    os::unix::fs::{PermissionsExt as _, chown},
};

use anyhow::ensure;
use fairlead_lab::{Host, Lab};

use crate::command::say;

const FIRST_UID: u32 = 7101;
/// As many addresses as the network below has.
const MAX: u8 = 250;
const NETWORK: [u8; 3] = [172, 30, 1];
/// What the identity provider says of each of them. No role hangs on it.
const GROUP: &str = "crowd";

#[derive(Debug, Clone, Copy)]
pub struct Crowd(u8);

impl Crowd {
    #[must_use]
    pub const fn of(people: u8) -> Self {
        Self(people)
    }

    /// Returns everybody's name and uid.
    pub(crate) fn people(self) -> impl Iterator<Item = (String, u32)> {
        (0..self.0).map(|number| (format!("member{number:03}"), FIRST_UID + u32::from(number)))
    }

    pub(crate) fn groups(self) -> BTreeMap<String, Vec<String>> {
        self.people().map(|(name, _)| (name, vec![GROUP.to_owned()])).collect()
    }

    /// Gives everybody a home and an address.
    pub(crate) fn settles(self, lab: &Lab) -> anyhow::Result<()> {
        ensure!(self.0 <= MAX, "a crowd has at most {MAX} people");
        if self.0 == 0 {
            return Ok(());
        }
        for (name, uid) in self.people() {
            let home = lab.home(&name);
            fs::create_dir_all(&home)?;
            chown(&home, Some(uid), Some(uid))?;
            fs::set_permissions(&home, fs::Permissions::from_mode(0o700))?;
        }
        let addresses =
            (0..self.0).map(|number| format!("address add {}/32 dev eth0\n", of(number)));
        ip(lab, Host::Laptop, &addresses.collect::<String>())?;
        let [a, b, c] = NETWORK;
        ip(lab, Host::Hub, &format!("route add {a}.{b}.{c}.0/24 dev eth0\n"))?;
        let each =
            (0..self.0).map(|number| format!("{} : {}", FIRST_UID + u32::from(number), of(number)));
        let each = each.collect::<Vec<_>>().join(", ");
        let mut nft = lab.exec(Host::Laptop, "nft");
        nft.arg(format!(
            "table ip crowd {{ chain out {{ type nat hook postrouting priority srcnat; \
             oifname eth0 snat to meta skuid map {{ {each} }}; }}; }}"
        ));
        say(nft)?.ok()?;
        Ok(())
    }
}

fn of(number: u8) -> Ipv4Addr {
    let [a, b, c] = NETWORK;
    Ipv4Addr::new(a, b, c, number + 1)
}

fn ip(lab: &Lab, host: Host, batch: &str) -> anyhow::Result<()> {
    let file = lab.folder().join("crowd.ip");
    fs::write(&file, batch)?;
    let mut ip = lab.exec(host, "ip");
    ip.arg("-batch").arg(&file);
    say(ip)?.ok()?;
    Ok(())
}
