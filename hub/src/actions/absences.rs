//! Services that a session reaches and that the catalogue lacks, and since when.
//!
//! What is deleted and made again (a `kubectl replace --force`, a Helm upgrade) is missing for a moment. It is taken for
//! gone only after a while, so that names on laptops do not come and go with it.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use fairlead_model::{OrgId, ServiceRef, TeamspaceId};
use tokio::time::Instant;

/// Whatever was made again is there again by then.
pub(crate) const SETTLES: Duration = Duration::from_secs(2);
/// Every session that reached it has been looked at by then.
const REMEMBERED: Duration = Duration::from_secs(60);

type Of = (OrgId, TeamspaceId);

#[derive(Debug, Default)]
pub struct Absences(Mutex<HashMap<Of, HashMap<ServiceRef, Absence>>>);

#[derive(Clone, Copy, Debug)]
struct Absence {
    since: Instant,
    /// Whoever waits for it to settle has been told.
    is_told: bool,
}

impl Absences {
    /// Takes note of what of a teamspace is `missing` at this moment, and returns those of it that are gone.
    pub(super) fn gone(&self, of: Of, missing: &[ServiceRef], now: Instant) -> Vec<ServiceRef> {
        if missing.is_empty() {
            return Vec::new();
        }
        let mut absences = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let here = absences.entry(of).or_default();
        here.retain(|_, absence| now < absence.since + REMEMBERED);
        let mut gone = Vec::new();
        for service in missing {
            let new = Absence { since: now, is_told: false };
            let absence = here.entry(service.clone()).or_insert(new);
            if now >= absence.since + SETTLES {
                gone.push(service.clone());
            }
        }
        gone
    }

    /// Takes note of what a teamspace has.
    pub(super) fn are_there<'s>(&self, of: Of, services: impl Iterator<Item = &'s ServiceRef>) {
        let mut absences = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(here) = absences.get_mut(&of) else { return };
        let services: BTreeSet<_> = services.collect();
        here.retain(|service, _| !services.contains(service));
        if here.is_empty() {
            absences.remove(&of);
        }
    }

    /// Returns when something settles next, and in which teamspace; each once.
    pub(crate) fn next(&self) -> Option<(Instant, Of)> {
        let absences = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let each = absences.iter().flat_map(|(of, here)| here.values().map(move |a| (a, *of)));
        let untold = each.filter(|(absence, _)| !absence.is_told);
        untold.map(|(absence, of)| (absence.since + SETTLES, of)).min()
    }

    /// Takes note that whoever waits has been told of what has settled in a teamspace by now.
    pub(crate) fn are_told(&self, of: Of, now: Instant) {
        let mut absences = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let here = absences.get_mut(&of).into_iter().flat_map(HashMap::values_mut);
        here.filter(|a| now >= a.since + SETTLES).for_each(|absence| absence.is_told = true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn services(names: &[&str]) -> Vec<ServiceRef> {
        names.iter().map(|name| name.parse().expect("a service")).collect()
    }

    #[test]
    fn what_is_missing_is_gone_after_a_while_for_every_session() {
        let (absences, of) = (Absences::default(), (OrgId::generate(), TeamspaceId::generate()));
        let (missing, now) = (services(&["shop/cart"]), Instant::now());
        assert_eq!(absences.gone(of, &missing, now), []);
        assert_eq!(absences.next(), Some((now + SETTLES, of)));
        assert_eq!(absences.gone(of, &missing, now + SECOND), []);
        absences.are_told(of, now + SECOND);
        assert_eq!(absences.next(), Some((now + SETTLES, of)), "it has not settled");
        absences.are_told(of, now + SETTLES);
        assert_eq!(absences.next(), None);
        for _ in 0..2 {
            assert_eq!(absences.gone(of, &missing, now + SETTLES), missing);
        }
    }

    #[test]
    fn what_was_made_again_begins_anew() {
        let (absences, of) = (Absences::default(), (OrgId::generate(), TeamspaceId::generate()));
        let (missing, now) = (services(&["shop/cart"]), Instant::now());
        assert_eq!(absences.gone(of, &missing, now), []);
        absences.are_there(of, missing.iter());
        assert_eq!(absences.next(), None);
        assert_eq!(absences.gone(of, &missing, now + SETTLES), []);
    }
}
