//! The authorities that this machine trusts, read when that may have changed.

use std::{
    fs,
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use rustls::RootCertStore;

/// A laptop or an agent that looks for its hub dials a few times a second, and to parse what a system trusts takes longer
/// than all the rest of that: some ten milliseconds. So that is done again when a place has changed in which the system
/// keeps its authorities, and after this time whatever is seen: an hour on Linux; elsewhere they are not kept in files.
const SYSTEM_KEPT: Duration =
    Duration::from_secs(if cfg!(target_os = "linux") { 3600 } else { 60 });

static SYSTEM: Kept = Kept(Mutex::new(None));

/// Returns the system's authorities; one that cannot be read is one less.
pub(crate) fn authorities() -> RootCertStore {
    SYSTEM.authorities(Instant::now(), places(), read)
}

/// The system's authorities, when they were read, and from where.
struct Kept(Mutex<Option<(Instant, Places, RootCertStore)>>);

/// Files and folders, each with the time of its last change.
type Places = Vec<(PathBuf, SystemTime)>;

impl Kept {
    fn authorities(
        &self,
        now: Instant,
        places: Places,
        read: impl FnOnce() -> RootCertStore,
    ) -> RootCertStore {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = kept.take_if(|(at, from, _)| {
            *from == places && now.saturating_duration_since(*at) < SYSTEM_KEPT
        });
        // Places are looked at before they are read: a change between the two is found by the next look.
        let (.., roots) = kept.insert(fresh.unwrap_or_else(|| (now, places, read())));
        roots.clone()
    }
}

fn places() -> Places {
    let found = openssl_probe::probe();
    let paths = found.cert_file.into_iter().chain(found.cert_dir);
    paths
        .filter_map(|path| {
            let changed = fs::metadata(&path).and_then(|place| place.modified()).ok()?;
            Some((path, changed))
        })
        .collect()
}

fn read() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    for error in &system.errors {
        tracing::debug!(%error, "Could not read one of the system's certificate authorities");
    }
    roots.add_parsable_certificates(system.certs);
    roots
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn what_the_system_trusts_is_read_again_when_it_changes_and_after_a_while() {
        let (kept, reads, begun) = (Kept(Mutex::new(None)), Cell::new(0), Instant::now());
        let dials = |waited, changed_s| {
            let changed = SystemTime::UNIX_EPOCH + Duration::from_secs(changed_s);
            kept.authorities(begun + waited, vec![(PathBuf::from("/certs"), changed)], || {
                reads.set(reads.get() + 1);
                RootCertStore::empty()
            });
            reads.get()
        };
        assert_eq!(dials(Duration::ZERO, 1), 1);
        assert_eq!(dials(SYSTEM_KEPT / 2, 1), 1);
        assert_eq!(dials(SYSTEM_KEPT / 2, 2), 2, "another one was installed");
        assert_eq!(dials(SYSTEM_KEPT, 2), 2);
        assert_eq!(dials(SYSTEM_KEPT / 2 + SYSTEM_KEPT, 2), 3);
    }
}
