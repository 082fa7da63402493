//! Proofs that have been used: each is good once.
//!
//! The memory is that of one hub process. A proof that is replayed at another replica within its minute also needs a
//! refresh token that nobody has used yet, and that is checked in the database.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use fairlead_model::timers::CLOCK_SKEW;
use fairlead_wire::dpop::Proof;
use jiff::Timestamp;

/// Ten times what a hub of ten thousand laptops sees within the life of a proof.
const MAX_PROOFS: usize = 50_000;

/// Remembers the proofs of the last minutes.
#[derive(Debug, Default)]
pub struct SeenProofs(Mutex<HashMap<(String, String), Timestamp>>);

/// Why a proof may not be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unusable {
    UsedBefore,
    /// More proofs than anybody needs: none is accepted until old ones expire.
    TooMany,
}

/// A proof that nobody else may use meanwhile. Dropping it leaves nothing behind, because anybody can make proofs;
/// [`Reserved::keep`] does when it has come with a token of its key.
#[derive(Debug)]
#[must_use]
pub(super) struct Reserved<'s> {
    seen: &'s SeenProofs,
    proof: Proof,
    kept: bool,
}

impl SeenProofs {
    /// Takes a proof for one use. Of two who come with it at once, one gets it.
    pub(super) fn reserve(&self, proof: Proof, now: Timestamp) -> Result<Reserved<'_>, Unusable> {
        let mut seen = self.locked();
        if seen.len() >= MAX_PROOFS {
            seen.retain(|_, until| *until > now);
        }
        match seen.get(&name(&proof)) {
            Some(until) if *until > now => return Err(Unusable::UsedBefore),
            _ if seen.len() >= MAX_PROOFS => return Err(Unusable::TooMany),
            _ => {}
        }
        // A proof from a clock that is ahead by the skew lives for two of them.
        seen.insert(name(&proof), now + 2 * CLOCK_SKEW);
        Ok(Reserved { seen: self, proof, kept: false })
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<(String, String), Timestamp>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reserved<'_> {
    /// The thumbprint of the key that made it.
    pub(super) fn jkt(&self) -> &str {
        &self.proof.jkt
    }

    /// Remembers it for as long as it would be good.
    pub(super) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        if !self.kept {
            self.seen.locked().remove(&name(&self.proof));
        }
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
        seen.reserve(proof(1), now).expect("the first time").keep();
        assert_eq!(seen.reserve(proof(1), now).err(), Some(Unusable::UsedBefore));
        assert!(seen.reserve(proof(2), now).is_ok());
    }

    #[test]
    fn of_two_uses_at_once_one_counts() {
        let (seen, now) = (SeenProofs::default(), Timestamp::UNIX_EPOCH);
        let first = seen.reserve(proof(1), now).expect("the first time");
        assert_eq!(seen.reserve(proof(1), now).err(), Some(Unusable::UsedBefore));
        drop(first);
        assert!(seen.reserve(proof(1), now).is_ok(), "it came to nothing");
    }

    #[test]
    fn proofs_that_come_with_no_token_take_no_room() {
        let (seen, now) = (SeenProofs::default(), Timestamp::UNIX_EPOCH);
        for id in 0..=MAX_PROOFS {
            assert!(seen.reserve(proof(id), now).is_ok());
        }
    }

    #[test]
    fn the_memory_is_bounded_and_forgets() {
        let (seen, now) = (SeenProofs::default(), Timestamp::UNIX_EPOCH);
        for id in 0..MAX_PROOFS {
            seen.reserve(proof(id), now).expect("room").keep();
        }
        assert_eq!(seen.reserve(proof(MAX_PROOFS), now).err(), Some(Unusable::TooMany));
        assert!(seen.reserve(proof(MAX_PROOFS), now + 3 * CLOCK_SKEW).is_ok());
    }
}
