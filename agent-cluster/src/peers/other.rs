//! One other replica: what is known of it, and what it is counted on for.

use std::time::Instant;

use tokio::task::AbortHandle;

use super::{Evidence, Life, PeerState, Replica, judge, link::News, may_serve};
use crate::seen::AgentEndpoint;

pub(super) struct Other {
    pub(super) endpoint: AgentEndpoint,
    pub(super) ready: bool,
    heard: Option<(Instant, PeerState)>,
    refusals: u32,
    /// Our own connection to it stands.
    reached: bool,
    /// What it last said on the Lease, and when that was read.
    word: Option<(String, Instant)>,
    telling: AbortHandle,
}

impl Other {
    /// `telling` keeps it up to date about us, until it is forgotten.
    pub(super) fn of(endpoint: AgentEndpoint, ready: bool, telling: AbortHandle) -> Self {
        Self { endpoint, ready, heard: None, refusals: 0, reached: false, word: None, telling }
    }

    pub(super) fn learn(&mut self, news: News) {
        match news {
            News::Heard { at, state, .. } => {
                self.heard = Some((at, *state));
                self.refusals = 0;
            }
            News::Reached { .. } => {
                // Whoever answers after a refusal is another process: what was heard before is a dead one's word.
                if self.refusals > 0 {
                    self.heard = None;
                }
                self.refusals = 0;
                self.reached = true;
            }
            News::Refused { .. } => {
                self.refusals = self.refusals.saturating_add(1);
                self.reached = false;
            }
            News::Lost { .. } => self.reached = false,
        }
    }

    /// Takes note of its word on the Lease; the same word again is no news.
    pub(super) fn read(&mut self, word: &str, now: Instant) {
        if self.word.as_ref().is_none_or(|(known, _)| known != word) {
            self.word = Some((word.to_owned(), now));
        }
    }

    pub(super) fn evidence(&self, now: Instant) -> Evidence {
        Evidence {
            pod_exists: true,
            pod_ready: self.ready,
            silent_for: self.heard.as_ref().map(|(at, _)| now - *at),
            refusals: self.refusals,
            word_for: self.word.as_ref().map(|(_, at)| now - *at),
        }
    }

    /// Says whether it hears us, as far as we can tell from hearing it.
    pub(super) fn is_in_touch(&self, evidence: Evidence) -> bool {
        self.reached && judge(evidence) != Life::Silent
    }

    pub(super) fn hears_the_hub(&self, evidence: Evidence) -> bool {
        let state = self.heard.as_ref().map(|(_, state)| state);
        state.is_some_and(|state| state.linked && !state.draining) && judge(evidence) == Life::Alive
    }

    /// Returns what the others are told to count on. What a silent replica held is not known any more.
    pub(super) fn as_seen(&self, evidence: Evidence) -> Option<Replica> {
        let (_, state) = self.heard.as_ref().filter(|_| may_serve(evidence))?;
        let mut state = state.clone();
        if judge(evidence) != Life::Alive {
            state.holds.clear();
            state.linked = false;
        }
        Some(Replica { endpoint: self.endpoint.clone(), state })
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        self.telling.abort();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::made_up;

    fn other() -> Other {
        Other::of(made_up::replica(2), true, tokio::spawn(async {}).abort_handle())
    }

    fn heard(at: Instant) -> News {
        let state = Box::new(PeerState { linked: true, ..PeerState::default() });
        News::Heard { replica: "agent-2".to_owned(), at, state }
    }

    #[tokio::test]
    async fn a_restarted_replica_is_not_taken_for_the_one_that_died() {
        let (mut other, now) = (other(), Instant::now());
        other.learn(heard(now));
        assert_eq!(judge(other.evidence(now)), Life::Alive);
        for _ in 0..3 {
            other.learn(News::Refused { replica: "agent-2".to_owned() });
        }
        assert_eq!(judge(other.evidence(now)), Life::Dead);
        other.learn(News::Reached { replica: "agent-2".to_owned() });
        assert_eq!(judge(other.evidence(now)), Life::Silent, "it has said nothing yet");
        assert_eq!(other.as_seen(other.evidence(now)), None);
        other.learn(heard(now));
        assert_eq!(judge(other.evidence(now)), Life::Alive);
    }

    #[tokio::test]
    async fn a_silent_replica_keeps_its_place_but_vouches_for_no_laptop() {
        let (mut other, now) = (other(), Instant::now());
        other.learn(heard(now));
        let later = now + super::super::SILENT;
        let seen = other.as_seen(other.evidence(later)).expect("it is counted on");
        assert!(!seen.state.linked && seen.state.holds.is_empty());
        let much_later = later + Duration::from_secs(60);
        assert_eq!(other.as_seen(other.evidence(much_later)), None);
        other.read("a word", much_later);
        assert!(other.as_seen(other.evidence(much_later)).is_some(), "it speaks on the Lease");
        other.read("a word", much_later + Duration::from_secs(60));
        let then = much_later + Duration::from_secs(60);
        assert_eq!(other.as_seen(other.evidence(then)), None, "the same word is no news");
    }
}
