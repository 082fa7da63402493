//! Proofs that have been used: each is good once.
//!
//! The memory is that of one hub process. A proof that is replayed at another replica within its minute also needs a
//! refresh token that nobody has used yet, and that is checked in the database.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use fairlead_model::timers::CLOCK_SKEW;
use fairlead_wire::dpop::Proof;
use jiff::Timestamp;

/// Ten times what a hub of ten thousand laptops sees within the life of a proof.
const MAX_PROOFS: usize = 50_000;

/// Remembers the proofs of the last minutes.
#[derive(Debug, Default)]
pub struct SeenProofs(Mutex<HashMap<(String, String), Timestamp>>);

/// Whether a proof may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    FirstTime,
    Before,
    /// More proofs than anybody needs: none is accepted until old ones expire.
    TooMany,
}

impl SeenProofs {
    /// Says whether a proof may be used. Looking leaves nothing behind: anybody can make proofs.
    pub(super) fn look(&self, proof: &Proof, now: Timestamp) -> Seen {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= MAX_PROOFS {
            seen.retain(|_, until| *until > now);
        }
        match seen.get(&name(proof)) {
            Some(until) if *until > now => Seen::Before,
            _ if seen.len() >= MAX_PROOFS => Seen::TooMany,
            _ => Seen::FirstTime,
        }
    }

    /// Remembers a proof that came with a token of its key.
    pub(super) fn note(&self, proof: &Proof, now: Timestamp) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A proof from a clock that is ahead by the skew lives for two of them.
        seen.insert(name(proof), now + 2 * CLOCK_SKEW);
    }
}

fn name(proof: &Proof) -> (String, String) {
    (proof.jkt.clone(), proof.id.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proof(id: usize) -> Proof {
        Proof { jkt: "key".to_owned(), id: id.to_string() }
    }

    #[test]
    fn a_proof_is_good_once() {
        let (seen, now) = (SeenProofs::default(), Timestamp::UNIX_EPOCH);
        assert_eq!(seen.look(&proof(1), now), Seen::FirstTime);
        seen.note(&proof(1), now);
        assert_eq!(seen.look(&proof(1), now), Seen::Before);
        assert_eq!(seen.look(&proof(2), now), Seen::FirstTime);
    }

    #[test]
    fn proofs_that_come_with_no_token_take_no_room() {
        let (seen, now) = (SeenProofs::default(), Timestamp::UNIX_EPOCH);
        for id in 0..=MAX_PROOFS {
            assert_eq!(seen.look(&proof(id), now), Seen::FirstTime);
        }
    }

    #[test]
    fn the_memory_is_bounded_and_forgets() {
        let (seen, now) = (SeenProofs::default(), Timestamp::UNIX_EPOCH);
        for id in 0..MAX_PROOFS {
            seen.note(&proof(id), now);
        }
        assert_eq!(seen.look(&proof(MAX_PROOFS), now), Seen::TooMany);
        assert_eq!(seen.look(&proof(MAX_PROOFS), now + 3 * CLOCK_SKEW), Seen::FirstTime);
    }
}
