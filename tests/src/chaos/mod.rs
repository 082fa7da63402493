//! Chaos: rounds in which somebody works while processes and links are struck. A seed determines what happens in each
//! round, so that one that failed can be played again; when exactly a blow meets what it strikes is the machine's doing.
//!
//! Here is what is the same wherever rounds are played: their numbers, the dice, how blows are drawn with them, and what is
//! said of rounds that fail.

mod blows;
mod dice;

use std::{
    fmt,
    io::{self, Write as _},
    str::FromStr,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Instant,
};

use anyhow::{Context, ensure};

pub use blows::{Blow, Storm, blows_told};
pub use dice::Dice;

/// After so many failures nothing new is learned.
const FAILURES_MAX: usize = 10;

/// Which rounds are played; written as `SEED:FIRST-LAST`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rounds {
    pub seed: u64,
    pub first: u32,
    pub last: u32,
}

impl Rounds {
    /// Plays each round with dice of its own, so many at a time, and fails when one did.
    ///
    /// A round that lasts says what it is before it begins: whoever ends the whole knows where it stood. `again` is what
    /// plays a round once more, but for its seed and its number.
    pub fn play<P: fmt::Display>(
        self,
        again: &str,
        at_a_time: usize,
        plan: impl Fn(Dice) -> P + Sync,
        play: impl Fn(&P) -> anyhow::Result<()> + Sync,
    ) -> anyhow::Result<()> {
        let (next, failed) = (AtomicU32::new(self.first), Mutex::new(Vec::new()));
        let failed_so_far = || failed.lock().unwrap_or_else(PoisonError::into_inner);
        let work = || {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number > self.last || failed_so_far().len() >= FAILURES_MAX {
                    break;
                }
                let (plan, begun) = (plan(Dice::of(self.seed, number)), Instant::now());
                say(&format!("round {number} of seed {}: {plan}", self.seed));
                let played = play(&plan);
                let took = begun.elapsed().as_millis();
                match played {
                    Ok(()) => say(&format!("round {number}: well after {took} ms")),
                    Err(error) => {
                        say(&self.failure(again, number, &plan, &error));
                        failed_so_far().push(number);
                    }
                }
            }
        };
        thread::scope(|scope| {
            for _ in 1..at_a_time {
                scope.spawn(work);
            }
            work();
        });
        let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
        ensure!(failed.is_empty(), "rounds of seed {} that failed: {failed:?}", self.seed);
        Ok(())
    }

    fn failure(
        self,
        again: &str,
        number: u32,
        plan: &impl fmt::Display,
        error: &anyhow::Error,
    ) -> String {
        let seed = self.seed;
        format!(
            "round {number} of seed {seed} FAILED: {plan}\n{error:#}\nagain: {again} --seed {seed} --round {number}"
        )
    }
}

/// Nobody reads any more: the rounds go on all the same.
fn say(line: &str) {
    writeln!(io::stderr(), "{line}").unwrap_or_default();
}

impl FromStr for Rounds {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let read = || {
            let (seed, rounds) = text.split_once(':')?;
            let (first, last) = rounds.split_once('-')?;
            Some(Self {
                seed: seed.parse().ok()?,
                first: first.parse().ok()?,
                last: last.parse().ok()?,
            })
        };
        read().with_context(|| format!("`{text}` names no rounds: SEED:FIRST-LAST"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_round_is_played_once_and_one_that_fails_is_named() {
        let rounds: Rounds = "7:1-20".parse().expect("rounds");
        let played = AtomicU32::new(0);
        let play = |even: &u64| {
            played.fetch_add(1, Ordering::Relaxed);
            ensure!(even.is_multiple_of(2), "odd");
            Ok(())
        };
        rounds.play("again", 3, |mut dice| dice.roll() & !1, play).expect("all are even");
        assert_eq!(played.load(Ordering::Relaxed), 20);
        let one: Rounds = "7:5-5".parse().expect("rounds");
        let error = one.play("again", 3, |mut dice| dice.roll() | 1, play).expect_err("odd");
        assert_eq!(error.to_string(), "rounds of seed 7 that failed: [5]");
        let told = one.failure("again", 5, &"a plan", &error);
        assert!(told.contains("a plan") && told.contains("again --seed 7 --round 5"), "{told}");
    }

    #[test]
    fn what_names_no_rounds_is_refused() {
        for text in ["", "7", "7:1", "7:1-", "x:1-2"] {
            assert!(text.parse::<Rounds>().is_err(), "{text}");
        }
    }
}
