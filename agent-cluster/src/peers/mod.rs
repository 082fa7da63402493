//! The other replicas: who lives, what they hold, and which one writes.
//!
//! Each replica keeps a connection to each other one and says its whole state on it, once a second and at every
//! change. A killed container resets that connection within a millisecond; a lost node only falls silent. The two
//! are judged differently (`judge`), because a broken path between replicas that both live must never make each
//! take the other out of service: only the holder of the Lease writes, and the Lease changes hands on evidence.

pub(crate) mod link;
pub(crate) mod writer;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use fairlead_model::{ServiceRef, SessionId, timers};
use serde::{Deserialize, Serialize};

use crate::intercept::{doors::Assignment, hold::HoldSeen, plan::AgentEndpoint};

/// A replica that said nothing for this long is not counted on.
pub(crate) const SILENT: Duration =
    timers::INTERCEPT_BEAT.saturating_mul(timers::INTERCEPT_BEATS_MISSED);
/// A holder that is later than this has missed a renewal.
const LEASE_OVERDUE: Duration = timers::AGENT_LEASE_RENEWAL.saturating_add(Duration::from_secs(1));
/// So many refused connections in a row mean that nothing listens at the peer's address any more.
const REFUSALS: u32 = 3;

/// Everything a replica tells the others. Whole each time: a lost message needs no repair.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PeerState {
    /// From the writer only: which ports every replica has to open.
    pub(crate) assignments: Vec<Assignment>,
    /// What this replica has open.
    pub(crate) listening: Vec<(ServiceRef, BTreeSet<u16>)>,
    pub(crate) holds: Vec<(SessionId, HoldSeen)>,
    /// Sessions that were ended here; they must not begin again when another replica becomes the writer.
    pub(crate) ended: Vec<SessionId>,
    /// About to stop: take its endpoint out.
    pub(crate) draining: bool,
}

impl PeerState {
    pub(crate) fn listens(&self, service: &ServiceRef, ports: &BTreeSet<u16>) -> bool {
        self.listening.iter().any(|(open, on)| open == service && ports.is_subset(on))
    }

    pub(crate) fn hold(&self, session: SessionId) -> Option<&HoldSeen> {
        self.holds.iter().find(|(of, _)| *of == session).map(|(_, seen)| seen)
    }
}

/// Another replica, alive as far as can be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Replica {
    pub(crate) endpoint: AgentEndpoint,
    pub(crate) state: PeerState,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PeersSeen {
    /// This replica holds the Lease.
    pub(crate) is_writer: bool,
    /// The name of whoever does.
    pub(crate) writer: Option<String>,
    /// The others, by pod name; only those that can be counted on.
    pub(crate) alive: BTreeMap<String, Replica>,
    /// Pods of the agent that exist, this one left out, whatever their state; for waiting until they speak.
    pub(crate) expected: BTreeSet<String>,
}

/// What is known about the life of one other replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Evidence {
    /// The API still knows its pod, and the pod has not finished.
    pub(crate) pod_exists: bool,
    /// Since it last said something; `None` when it never did.
    pub(crate) silent_for: Option<Duration>,
    /// Connections refused by its own address, in a row.
    pub(crate) refusals: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    Alive,
    /// Nothing is heard; it may live behind a broken path.
    Silent,
    /// It cannot be serving.
    Dead,
}

pub(crate) fn judge(evidence: Evidence) -> Life {
    match evidence {
        Evidence { pod_exists: false, .. } => Life::Dead,
        Evidence { refusals, .. } if refusals >= REFUSALS => Life::Dead,
        Evidence { silent_for: Some(silent), .. } if silent < SILENT => Life::Alive,
        _ => Life::Silent,
    }
}

/// What is known about the Lease when this replica wonders whether to take it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LeaseSeen {
    pub(crate) holder: Holder,
    /// Since the Lease was last seen to change.
    pub(crate) unchanged_for: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holder {
    Nobody,
    Myself,
    Other(Life),
}

/// Says whether the Lease may be taken, or renewed.
pub(crate) fn may_hold(lease: LeaseSeen) -> bool {
    match lease.holder {
        Holder::Nobody | Holder::Myself => true,
        Holder::Other(Life::Dead) => true,
        Holder::Other(Life::Silent) => lease.unchanged_for >= LEASE_OVERDUE,
        Holder::Other(Life::Alive) => lease.unchanged_for >= timers::JANITOR_PATIENCE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TALKING: Evidence =
        Evidence { pod_exists: true, silent_for: Some(Duration::from_millis(900)), refusals: 0 };

    #[test]
    fn a_peer_that_talks_lives() {
        assert_eq!(judge(TALKING), Life::Alive);
        assert_eq!(judge(Evidence { refusals: 1, ..TALKING }), Life::Alive);
    }

    #[test]
    fn a_killed_container_is_dead_before_it_is_silent() {
        assert_eq!(judge(Evidence { refusals: REFUSALS, ..TALKING }), Life::Dead);
    }

    #[test]
    fn a_deleted_pod_is_dead() {
        assert_eq!(judge(Evidence { pod_exists: false, ..TALKING }), Life::Dead);
    }

    #[test]
    fn a_cut_cable_is_silence_and_no_proof_of_death() {
        let silent = Evidence { silent_for: Some(SILENT), ..TALKING };
        assert_eq!(judge(silent), Life::Silent);
        assert_eq!(judge(Evidence { silent_for: None, ..TALKING }), Life::Silent);
    }

    fn lease(holder: Holder, unchanged_s: u64) -> LeaseSeen {
        LeaseSeen { holder, unchanged_for: Duration::from_secs(unchanged_s) }
    }

    #[test]
    fn the_lease_of_a_dead_writer_is_taken_at_once() {
        assert!(may_hold(lease(Holder::Other(Life::Dead), 0)));
    }

    #[test]
    fn the_lease_of_a_silent_writer_is_taken_when_it_misses_a_renewal() {
        assert!(!may_hold(lease(Holder::Other(Life::Silent), 2)));
        assert!(may_hold(lease(Holder::Other(Life::Silent), 3)));
    }

    #[test]
    fn a_writer_that_talks_but_does_not_renew_is_replaced_in_the_end() {
        assert!(!may_hold(lease(Holder::Other(Life::Alive), 14)));
        assert!(may_hold(lease(Holder::Other(Life::Alive), 15)));
    }

    #[test]
    fn nobodys_lease_is_free() {
        assert!(may_hold(lease(Holder::Nobody, 0)));
    }
}
