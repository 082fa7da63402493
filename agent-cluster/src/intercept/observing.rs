//! What the writer says about each session: the phase a person should see, and the words that go with it.

use fairlead_model::{Phase, SessionId};

use super::{
    Intercepts, Look,
    case::Case,
    hold::{HoldSeen, Sight, Verdict},
};
use crate::{report, wanted::WantedIntercept, watch::Inventory};

impl Intercepts {
    /// Says in which phase each session is.
    pub(super) fn observe(&self, look: &Look, inventory: &Inventory) -> report::Observed {
        let served = self.wishes();
        let mut observed = report::Observed::new();
        for (session, known) in &self.sessions {
            let Some(intercept) = look.intercept(*session) else { continue };
            let phase = match served.get(&known.service) {
                Some(first) if first != session => {
                    (Phase::Refused, format!("{} is intercepted already.", known.service))
                }
                _ => self.phase_of(*session, intercept, look),
            };
            observed.insert(*session, phase);
        }
        for (session, ended) in &self.ended {
            let key = inventory
                .service(&ended.service)
                .and_then(|s| self.owner.session_of(s.sentinel()?));
            let slice = inventory.own_slice_of(&ended.service);
            let given_back =
                key != Some(*session) && (slice.is_none() || served.contains_key(&ended.service));
            let phase = match (ended.phase, given_back) {
                // Contested is what is seen while two still want the Service; then it is over.
                (Phase::Contested, true) => Phase::Ended,
                (phase, true) => phase,
                (Phase::Contested, false) => Phase::Contested,
                (_, false) => Phase::Away,
            };
            observed.insert(*session, (phase, ended.detail.clone()));
        }
        observed
    }

    fn phase_of(
        &self,
        session: SessionId,
        intercept: &WantedIntercept,
        look: &Look,
    ) -> (Phase, String) {
        let seen = self.seen_of(Some(session), look);
        match self.verdict_on(session, intercept, look) {
            Verdict::Live => {}
            Verdict::Waiting | Verdict::Absent => {
                return (Phase::Preparing, "waiting for the laptop's carrier".to_owned());
            }
            Verdict::Away | Verdict::Lost => {
                return (
                    Phase::Away,
                    "the laptop does not answer; requests go to the pods".to_owned(),
                );
            }
        }
        let case = self.cases.get(&intercept.service).filter(|case| case.session == Some(session));
        if case.is_some_and(Case::is_fought_over) {
            let detail = "somebody keeps removing the redirect; it is put back";
            return (Phase::Contested, detail.to_owned());
        }
        let is_proven = |port: u16| seen.iter().any(|seen| seen.proven.contains(&port));
        if intercept.ports.iter().all(|port| is_proven(port.service_port.get())) {
            let apart = seen.iter().filter(|seen| seen.sight != Sight::Live).count();
            let detail = match apart {
                0 => String::new(),
                n => format!(
                    "{n} of {} agent replicas cannot reach the laptop; their share goes to the pods",
                    seen.len()
                ),
            };
            return (Phase::Active, detail);
        }
        let refusal = seen.into_iter().find_map(|seen| seen.refusal);
        let refusal = refusal.map(|refusal| format!("{refusal}; requests go to the pods"));
        let trouble = case.and_then(|case| case.trouble.as_ref());
        let trouble = trouble.map(|trouble| format!("{trouble}; it is tried again"));
        (Phase::Preparing, trouble.or(refusal).unwrap_or_default())
    }

    /// What each replica sees of a session's laptop.
    pub(super) fn seen_of(&self, session: Option<SessionId>, look: &Look) -> Vec<HoldSeen> {
        let Some(session) = session else { return Vec::new() };
        let mine = self
            .wires
            .holds
            .seen()
            .into_iter()
            .filter(|(of, _)| *of == session)
            .map(|(_, seen)| seen);
        let theirs = look.peers.alive.values().filter_map(|r| r.state.hold(session)).cloned();
        mine.chain(theirs).collect()
    }
}
