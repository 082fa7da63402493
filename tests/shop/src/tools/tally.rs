//! What a steady stream of new connections met: pure counting, so that the figures can be trusted.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One connection: when it was begun and was over, counted from the first one, and who answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    pub begun_ms: u64,
    pub ended_ms: u64,
    pub answered: Result<String, String>,
}

/// The one line of JSON that `shop connect` prints. Times count from the first connection.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    pub ok: u64,
    pub failed: u64,
    pub by_answerer: BTreeMap<String, u64>,
    /// When the first connection that this one answered was begun.
    pub first_ms_by_answerer: BTreeMap<String, u64>,
    /// When the last connection that this one answered was begun.
    pub last_ms_by_answerer: BTreeMap<String, u64>,
    /// From the begin of a failed connection to the next answer; the longest of these times.
    pub longest_failure_ms: u64,
    /// When each failed connection was begun, for telling one long trouble from single stray ones.
    pub failed_at_ms: Vec<u64>,
    pub errors: BTreeMap<String, u64>,
}

impl Tally {
    /// Counts attempts, in whichever order they ended.
    pub fn of(mut attempts: Vec<Attempt>) -> Self {
        attempts.sort_by_key(|attempt| attempt.begun_ms);
        let mut tally = Tally::default();
        for attempt in &attempts {
            tally.count(attempt);
        }
        tally.longest_failure_ms = longest_failure_ms(&attempts);
        tally
    }

    fn count(&mut self, attempt: &Attempt) {
        match &attempt.answered {
            Ok(name) => {
                self.ok += 1;
                *self.by_answerer.entry(name.clone()).or_default() += 1;
                self.first_ms_by_answerer.entry(name.clone()).or_insert(attempt.begun_ms);
                self.last_ms_by_answerer.insert(name.clone(), attempt.begun_ms);
            }
            Err(error) => {
                self.failed += 1;
                self.failed_at_ms.push(attempt.begun_ms);
                *self.errors.entry(error.clone()).or_default() += 1;
            }
        }
    }
}

/// A failure lasts until somebody who came later is answered; the last one lasts until the end.
fn longest_failure_ms(attempts: &[Attempt]) -> u64 {
    let mut longest = 0;
    let mut failing_since = None;
    let mut last_ended_ms = 0;
    for attempt in attempts {
        last_ended_ms = last_ended_ms.max(attempt.ended_ms);
        match (&attempt.answered, failing_since) {
            (Err(_), None) => failing_since = Some(attempt.begun_ms),
            (Ok(_), Some(since)) => {
                longest = longest.max(attempt.ended_ms.saturating_sub(since));
                failing_since = None;
            }
            (Err(_), Some(_)) | (Ok(_), None) => {}
        }
    }
    failing_since.map_or(longest, |since| longest.max(last_ended_ms.saturating_sub(since)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(begun_ms: u64, took_ms: u64, answered: Result<&str, &str>) -> Attempt {
        let answered = answered.map(str::to_owned).map_err(str::to_owned);
        Attempt { begun_ms, ended_ms: begun_ms + took_ms, answered }
    }

    #[test]
    fn who_answered_is_counted_with_first_and_last_time() {
        let tally = Tally::of(vec![
            attempt(30, 1, Ok("laptop")),
            attempt(0, 1, Ok("pod")),
            attempt(10, 1, Ok("laptop")),
            attempt(20, 1, Ok("pod")),
        ]);
        assert_eq!((tally.ok, tally.failed, tally.longest_failure_ms), (4, 0, 0));
        assert_eq!(tally.by_answerer["pod"], 2);
        assert_eq!(tally.first_ms_by_answerer["laptop"], 10);
        assert_eq!(tally.last_ms_by_answerer["pod"], 20);
    }

    #[test]
    fn a_failure_lasts_from_its_begin_to_the_next_answer() {
        let tally = Tally::of(vec![
            attempt(0, 1, Ok("pod")),
            attempt(10, 100, Err("refused")),
            attempt(20, 100, Err("refused")),
            attempt(30, 5, Ok("pod")),
            attempt(40, 1, Err("timed out")),
            attempt(50, 2, Ok("pod")),
        ]);
        assert_eq!(tally.longest_failure_ms, 25);
        assert_eq!(tally.failed, 3);
        assert_eq!(tally.errors["refused"], 2);
    }

    #[test]
    fn a_failure_that_nothing_ends_lasts_until_the_last_attempt_was_over() {
        let tally = Tally::of(vec![
            attempt(0, 1, Ok("pod")),
            attempt(10, 3000, Err("timed out")),
            attempt(20, 3000, Err("timed out")),
        ]);
        assert_eq!(tally.longest_failure_ms, 3010);
    }
}
