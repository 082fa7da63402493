//! Ends that the hub speaks of before the answer has come that names the session: the link may overtake it, and what
//! it said is said once.

use std::collections::VecDeque;

use fairlead_model::{Phase, SessionId};

/// Far more than begin at a time; the oldest goes. Most of them are of sessions that were left here, which nobody
/// takes.
const ENDS_MAX: usize = 64;

#[derive(Debug, Default)]
pub(crate) struct EarlyEnds(VecDeque<(SessionId, Phase, Option<String>)>);

impl EarlyEnds {
    /// Remembers how a session ended; the first word counts.
    pub(crate) fn note(&mut self, id: SessionId, phase: Phase, detail: Option<String>) {
        if self.0.iter().any(|(known, ..)| *known == id) {
            return;
        }
        if self.0.len() == ENDS_MAX {
            self.0.pop_front();
        }
        self.0.push_back((id, phase, detail));
    }

    /// Returns how a session ended that is only now begun here.
    pub(crate) fn take(&mut self, id: SessionId) -> Option<(Phase, Option<String>)> {
        let place = self.0.iter().position(|(known, ..)| *known == id)?;
        self.0.remove(place).map(|(_, phase, detail)| (phase, detail))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_word_counts_and_the_oldest_goes() {
        let (mut ends, id) = (EarlyEnds::default(), SessionId::generate());
        ends.note(id, Phase::Refused, Some("why".to_owned()));
        ends.note(id, Phase::Ended, None);
        assert_eq!(ends.take(id), Some((Phase::Refused, Some("why".to_owned()))));
        assert_eq!(ends.take(id), None);
        ends.note(id, Phase::Ended, None);
        for _ in 0..ENDS_MAX {
            ends.note(SessionId::generate(), Phase::Ended, None);
        }
        assert_eq!((ends.0.len(), ends.take(id)), (ENDS_MAX, None));
    }
}
