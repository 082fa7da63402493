//! How often a carrier is tried for again: for ever, unless another try could only repeat the answer.

use std::time::Duration;

use fairlead_tunnel::Backoff;

use crate::offers::NoOffer;

/// A replica that is gone does not come back under its name.
const GONE_MAX: usize = 8;

/// The attempts since a carrier last stood.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    gone: usize,
    refused: usize,
    backoff: Backoff,
}

impl Attempts {
    pub(crate) fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// Takes note that an offer led nowhere, for a reason that is the last word after so many `tries` in a row, or never;
    /// says whether it is. What the hub offers is not gone, however long the way to it is interrupted.
    pub(crate) const fn failed(&mut self, tries: Option<usize>) -> bool {
        self.gone = 0;
        let Some(tries) = tries else {
            self.refused = 0;
            return false;
        };
        self.refused += 1;
        self.refused >= tries
    }

    /// Takes note that there was no offer. Only the hub knows which replicas there are, so its silence says nothing.
    pub(crate) const fn not_offered(&mut self, reason: &NoOffer) {
        if matches!(reason, NoOffer::Refused(_)) {
            self.gone += 1;
        }
    }

    /// Says whether the hub had none so often in a row that this replica is given up.
    pub(crate) const fn are_used_up(&self) -> bool {
        self.gone >= GONE_MAX
    }

    /// Begins again with short delays: what failed a moment ago failed elsewhere.
    pub(crate) const fn hurry(&mut self) {
        self.backoff.reset();
    }

    /// Returns how long to wait where the hub or the agent may be restarting, and nobody says when it is back.
    pub(crate) fn next_look(&mut self) -> Duration {
        self.backoff.next_look()
    }

    pub(crate) fn next_delay(&mut self) -> Duration {
        self.backoff.next_delay()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOST: Option<usize> = None;
    const REFUSED: Option<usize> = Some(3);

    #[test]
    fn only_a_replica_that_the_hub_says_is_gone_is_given_up() {
        let gone = NoOffer::Refused("agent replica `a` is not connected to the hub".to_owned());
        let mut attempts = Attempts::default();
        for _ in 0..10 * GONE_MAX {
            attempts.failed(LOST);
            attempts.not_offered(&NoOffer::Late);
            attempts.not_offered(&NoOffer::NotConnected);
            attempts.not_offered(&gone);
        }
        assert!(!attempts.are_used_up(), "it was offered in between");
        for _ in 1..GONE_MAX {
            attempts.not_offered(&gone);
        }
        assert!(attempts.are_used_up());
    }

    #[test]
    fn a_refusal_is_the_last_word_after_a_few_tries_in_a_row() {
        let mut attempts = Attempts::default();
        assert!(!attempts.failed(REFUSED) && !attempts.failed(REFUSED));
        assert!(!attempts.failed(LOST), "it may have been the network");
        assert!(!attempts.failed(REFUSED) && !attempts.failed(REFUSED));
        assert!(attempts.failed(REFUSED));
    }
}
