//! Which loopback address a service has: from 127.72.0.0/14, and always the same one.
//!
//! An address outlives the session that asked for it, since browsers, JVMs and `known_hosts` remember it. The first
//! choice is a hash, so that even a machine without memory tends to give the same answer.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use fairlead_model::{Callee, TeamspaceId};

use crate::whole_file::replace_atomically;

pub const NETWORK: Ipv4Addr = Ipv4Addr::new(127, 72, 0, 0);
pub const LAST: Ipv4Addr = Ipv4Addr::new(127, 75, 255, 254);
/// Redirected for every user; a connection to it proves that the redirect stands.
pub const CANARY: Ipv4Addr = Ipv4Addr::new(127, 72, 0, 1);
/// Where this laptop's DNS server listens.
pub const DNS_SERVER: Ipv4Addr = Ipv4Addr::new(127, 72, 0, 53);

/// 127.72.0.0/24 is kept for ourselves: the canary and the DNS server.
const FIRST_OF_SERVICES: u32 = Ipv4Addr::new(127, 72, 1, 0).to_bits();
const COUNT: u32 = LAST.to_bits() - FIRST_OF_SERVICES + 1;

/// More than anybody's clusters have services; keeps the file and the probing short.
const REMEMBERED_MAX: usize = 100_000;

#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    #[error("could not read {path}")]
    Read { path: PathBuf, source: io::Error },
    #[error("could not write {path}")]
    Write { path: PathBuf, source: io::Error },
    #[error("all {REMEMBERED_MAX} loopback addresses are taken")]
    Exhausted,
}

pub type Key = (TeamspaceId, Callee);

/// The addresses given so far.
#[derive(Debug)]
pub struct Addresses {
    path: PathBuf,
    given: HashMap<String, Ipv4Addr>,
    taken: HashMap<Ipv4Addr, String>,
    changed: bool,
}

impl Addresses {
    /// Reads the addresses given before. A damaged file is forgotten: addresses may move, nothing breaks.
    pub fn load(path: &Path) -> Result<Self, AddressError> {
        let text = match std::fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => b"{}".to_vec(),
            Err(source) => return Err(AddressError::Read { path: path.to_owned(), source }),
        };
        let given: HashMap<String, Ipv4Addr> = serde_json::from_slice(&text).unwrap_or_default();
        let given: HashMap<_, _> =
            given.into_iter().filter(|(_, ip)| is_of_a_service(*ip)).collect();
        let taken = given.iter().map(|(key, ip)| (*ip, key.clone())).collect();
        Ok(Self { path: path.to_owned(), given, taken, changed: false })
    }

    /// Returns the address of a service, giving it one when it has none.
    pub fn of(&mut self, key: &Key) -> Result<Ipv4Addr, AddressError> {
        let key = format!("{}/{}", key.0, key.1);
        if let Some(address) = self.given.get(&key) {
            return Ok(*address);
        }
        if self.given.len() >= REMEMBERED_MAX {
            return Err(AddressError::Exhausted);
        }
        let address = probe(&key, |address| !self.taken.contains_key(&address))
            .ok_or(AddressError::Exhausted)?;
        self.given.insert(key.clone(), address);
        self.taken.insert(address, key);
        self.changed = true;
        Ok(address)
    }

    /// Writes what was given since the last time.
    pub fn save(&mut self) -> Result<(), AddressError> {
        if !self.changed {
            return Ok(());
        }
        let sorted: BTreeMap<_, _> = self.given.iter().collect();
        let text = serde_json::to_vec_pretty(&sorted).expect("strings and addresses are JSON");
        replace_atomically(&self.path, &text)
            .map_err(|source| AddressError::Write { path: self.path.clone(), source })?;
        self.changed = false;
        Ok(())
    }
}

/// Says whether an address lies in our network.
pub(crate) fn is_ours(address: Ipv4Addr) -> bool {
    (NETWORK.to_bits()..=LAST.to_bits() + 1).contains(&address.to_bits())
}

fn is_of_a_service(address: Ipv4Addr) -> bool {
    (FIRST_OF_SERVICES..=LAST.to_bits()).contains(&address.to_bits())
}

/// Walks from the key's own place to the first free one.
fn probe(key: &str, free: impl Fn(Ipv4Addr) -> bool) -> Option<Ipv4Addr> {
    let home = u32::try_from(fnv1a(key.as_bytes()) % u64::from(COUNT)).expect("below COUNT");
    (0..COUNT)
        .map(|step| Ipv4Addr::from_bits(FIRST_OF_SERVICES + (home + step) % COUNT))
        .find(|address| free(*address))
}

/// FNV-1a: the same on every machine and in every version, which `std`'s hasher does not promise.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use fairlead_model::ServiceRef;
    use proptest::prelude::*;

    use super::*;

    fn key(teamspace: TeamspaceId, service: &str) -> Key {
        (teamspace, service.parse::<ServiceRef>().expect("valid").into())
    }

    #[test]
    fn an_address_is_the_same_after_a_restart() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("addresses.json");
        let teamspace = TeamspaceId::generate();
        let mut addresses = Addresses::load(&path).expect("empty");
        let cart = addresses.of(&key(teamspace, "shop/cart")).expect("free");
        let payment = addresses.of(&key(teamspace, "shop/payment")).expect("free");
        addresses.save().expect("written");

        let mut again = Addresses::load(&path).expect("read");
        assert_eq!(again.of(&key(teamspace, "shop/payment")).expect("known"), payment);
        assert_eq!(again.of(&key(teamspace, "shop/cart")).expect("known"), cart);
        assert_ne!(cart, payment);
    }

    #[test]
    fn a_taken_place_leads_to_the_next_one() {
        let home = probe("key", |_| true).expect("free");
        let next = probe("key", |address| address != home).expect("free");
        assert_eq!(next.to_bits(), home.to_bits() + 1);
    }

    #[test]
    fn a_damaged_file_is_forgotten() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("addresses.json");
        std::fs::write(&path, "{ torn").expect("written");
        let mut addresses = Addresses::load(&path).expect("forgiven");
        addresses.of(&key(TeamspaceId::generate(), "shop/cart")).expect("free");
        addresses.save().expect("written");
    }

    proptest! {
        #[test]
        fn every_address_is_of_a_service_and_loopback(text in ".{0,40}") {
            let address = probe(&text, |_| true).expect("free");
            prop_assert!(is_of_a_service(address) && address.is_loopback());
        }
    }
}
