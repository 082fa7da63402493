//! The other replicas: who lives, what they hold, and which one writes.
//!
//! Each replica keeps a connection to each other one and says its whole state on it, once a second and at every
//! change. A killed container resets that connection within a millisecond; a lost node only falls silent. The two
//! are judged differently (`judge`), because a broken path between replicas that both live must never make each
//! take the other out of service: only the holder of the Lease writes, and the Lease changes hands on evidence.

mod desk;
pub(crate) mod link;
mod other;
mod others;
pub(crate) mod writer;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use fairlead_model::{ServiceRef, SessionId, timers};
use serde::{Deserialize, Serialize};

use crate::{
    intercept::{assignment::Assignment, doors::Reach, hold::HoldSeen},
    seen::AgentEndpoint,
};

/// A replica that said nothing for this long is not counted on.
pub(crate) const SILENT: Duration =
    timers::INTERCEPT_BEAT.saturating_mul(timers::INTERCEPT_BEATS_MISSED);
/// A holder that is later than this has missed a renewal.
const LEASE_OVERDUE: Duration = timers::AGENT_LEASE_RENEWAL.saturating_add(Duration::from_secs(1));
/// A replica that neither spoke to us nor, through the API, said on the Lease that it lives for this long is gone; with a
/// sync of kube-proxy this stays below the 8 s that a lost node may cost.
const UNHEARD: Duration = SILENT.saturating_add(Duration::from_secs(2));
/// A writer without the hub gives way to a replica that has it after this long; a link that is begun again takes less.
const WITHOUT_HUB: Duration = Duration::from_secs(3);
/// So many refused connections in a row mean that nothing listens at the peer's address any more.
const REFUSALS: u32 = 3;

/// Everything a replica tells the others. Whole each time: a lost message needs no repair.
/// What another version does not say is taken as not so.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct PeerState {
    /// From the writer only: which ports every replica has to open.
    pub(crate) assignments: Vec<Assignment>,
    /// What this replica has open.
    pub(crate) listening: Vec<(ServiceRef, BTreeSet<u16>)>,
    pub(crate) holds: Vec<(SessionId, HoldSeen)>,
    /// Sessions that were ended here; they must not begin again when another replica becomes the writer.
    pub(crate) ended: Vec<SessionId>,
    /// Whether the pods of a session's Service can be reached from here.
    pub(crate) reached: Vec<Reach>,
    /// The hub has this replica's ear.
    pub(crate) linked: bool,
    /// About to stop: take its endpoint out.
    pub(crate) draining: bool,
}

impl PeerState {
    pub(crate) fn listens(&self, service: &ServiceRef, ports: &BTreeSet<u16>) -> bool {
        self.listening.iter().any(|(open, on)| open == service && ports.is_subset(on))
    }

    pub(crate) fn reach(&self, session: SessionId) -> Option<&Reach> {
        self.reached.iter().find(|found| found.session == session)
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
}

/// What is known about the life of one other replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Evidence {
    /// The API still knows its pod, and the pod has not finished.
    pub(crate) pod_exists: bool,
    /// The kubelet calls its pod ready.
    pub(crate) pod_ready: bool,
    /// Since it last said something; `None` when it never did.
    pub(crate) silent_for: Option<Duration>,
    /// Connections refused by its own address, in a row.
    pub(crate) refusals: u32,
    /// Since it last said on the Lease that it lives, behind a path that is broken.
    pub(crate) word_for: Option<Duration>,
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

/// Says whether a replica keeps its place in the slices. Silence alone takes it from nobody: the path between the two
/// may be broken, and the one that writes may be the one that is cut off.
pub(crate) fn may_serve(evidence: Evidence) -> bool {
    let lately = |since: Option<Duration>| since.is_some_and(|since| since < UNHEARD);
    match judge(evidence) {
        Life::Alive => true,
        Life::Silent => {
            evidence.pod_ready && (lately(evidence.silent_for) || lately(evidence.word_for))
        }
        Life::Dead => false,
    }
}

/// Whether this replica has the hub's ear, and whether it is alone with that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hearing {
    /// `None` while it is linked.
    pub(crate) without_hub_for: Option<Duration>,
    pub(crate) a_peer_is_linked: bool,
}

impl Hearing {
    /// Says whether the writer should let another one write: it learns nothing new, and nobody learns from it.
    pub(crate) fn gives_way(self) -> bool {
        self.a_peer_is_linked && self.without_hub_for.is_some_and(|since| since >= WITHOUT_HUB)
    }

    /// Says whether the Lease is left to somebody who hears the hub.
    pub(crate) const fn stands_back(self) -> bool {
        self.a_peer_is_linked && self.without_hub_for.is_some()
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

    const TALKING: Evidence = Evidence {
        pod_exists: true,
        pod_ready: true,
        silent_for: Some(Duration::from_millis(900)),
        refusals: 0,
        word_for: None,
    };

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

    #[test]
    fn silence_alone_takes_no_replica_out_of_service() {
        let silent = Evidence { silent_for: Some(SILENT), ..TALKING };
        assert!(may_serve(silent));
        assert!(!may_serve(Evidence { pod_ready: false, ..silent }), "the kubelet agrees");
        assert!(!may_serve(Evidence { pod_exists: false, ..silent }));
        let for_long = Evidence { silent_for: Some(UNHEARD), ..TALKING };
        assert!(!may_serve(for_long), "it does not speak through the API either");
        let speaks = Evidence { word_for: Some(Duration::from_secs(1)), ..for_long };
        assert!(may_serve(speaks), "only the path between us is broken");
        assert!(!may_serve(Evidence { silent_for: None, ..TALKING }), "it never said anything");
    }

    #[test]
    fn a_replica_without_the_hub_gives_way_to_one_that_hears_it() {
        let linked = Hearing { without_hub_for: None, a_peer_is_linked: true };
        assert!(!linked.gives_way() && !linked.stands_back());
        let lost = |since| Hearing { without_hub_for: Some(since), a_peer_is_linked: true };
        assert!(!lost(Duration::ZERO).gives_way(), "the link may be back in a moment");
        assert!(lost(WITHOUT_HUB).gives_way() && lost(Duration::ZERO).stands_back());
        let alone = Hearing { a_peer_is_linked: false, ..lost(WITHOUT_HUB) };
        assert!(!alone.gives_way() && !alone.stands_back(), "somebody has to write");
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
