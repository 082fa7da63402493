//! How often a carrier is tried for again: for ever, unless another try could only repeat the answer.

use std::time::Duration;

use fairlead_tunnel::Backoff;

use crate::carriers::CarrierError;

/// A replica that is gone does not come back under its name.
const IN_A_ROW_MAX: usize = 8;

/// The attempts since a carrier last stood.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    failed: usize,
    refused: usize,
    backoff: Backoff,
}

impl Attempts {
    pub(crate) fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// Takes note of a failure, and says whether it is the last word.
    pub(crate) fn failed(&mut self, error: &CarrierError) -> bool {
        self.failed += 1;
        let Some(tries) = error.tries() else {
            self.refused = 0;
            return false;
        };
        self.refused += 1;
        self.refused >= tries
    }

    /// Takes note that the hub offered none.
    pub(crate) const fn unanswered(&mut self) {
        self.failed += 1;
    }

    /// Says whether so many failed in a row that this replica is given up.
    pub(crate) const fn are_used_up(&self) -> bool {
        self.failed >= IN_A_ROW_MAX
    }

    pub(crate) fn next_delay(&mut self) -> Duration {
        self.backoff.next_delay()
    }
}

#[cfg(test)]
mod tests {
    use fairlead_tunnel::OpenFailed;
    use fairlead_wire::open::{Refusal, Refused};

    use super::*;

    fn lost() -> CarrierError {
        CarrierError::NotOffered("not now".to_owned())
    }

    #[test]
    fn a_network_that_fails_now_and_then_never_stops_the_asking() {
        let mut attempts = Attempts::default();
        for _ in 0..10 * IN_A_ROW_MAX {
            attempts.failed(&lost());
            attempts.succeeded();
        }
        assert!(!attempts.are_used_up());
        for _ in 0..IN_A_ROW_MAX {
            attempts.unanswered();
        }
        assert!(attempts.are_used_up());
    }

    #[test]
    fn a_refusal_is_the_last_word_after_a_few_tries_in_a_row() {
        let refused = || {
            CarrierError::Grant(OpenFailed::Refused(Refused::new(Refusal::NotAllowed, "expired")))
        };
        let mut attempts = Attempts::default();
        assert!(!attempts.failed(&refused()) && !attempts.failed(&refused()));
        assert!(!attempts.failed(&lost()), "it may have been the network");
        assert!(!attempts.failed(&refused()) && !attempts.failed(&refused()));
        assert!(attempts.failed(&refused()));
    }
}
