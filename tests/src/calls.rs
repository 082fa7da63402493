//! What callers met, read: who answered from when on, and how long nobody did. Pure, so that figures can be trusted.

use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

/// While a dead endpoint of two is listed, every second connection fails. Fewer failures than this share of those
/// begun around the same time are strays: a node remembers, per source port, where it had sent a first packet, and a
/// later connection from the same port follows it to the dead. Nobody can make a node forget.
const TROUBLE: f64 = 0.2;
const AROUND: Duration = Duration::from_millis(250);
/// Whoever waits this long for an answer was kept waiting; the shop gives it in a few milliseconds.
const STALLED: Duration = Duration::from_millis(100);

/// One connection: when it was begun and over, and who answered or why nobody did.
#[derive(Debug, Clone)]
pub struct Call {
    pub begun: Instant,
    pub ended: Instant,
    pub answered_by: Result<String, String>,
}

impl Call {
    fn is(&self, wanted: &impl Fn(&str) -> bool) -> bool {
        self.answered_by.as_deref().is_ok_and(wanted)
    }
}

/// Calls in the order in which they were begun.
#[derive(Debug, Clone)]
pub struct Calls(Vec<Call>);

/// How soon new connections were answered as wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moved {
    /// The first answer as wanted that came after the last other one had been given, or after the event.
    pub first: Duration,
    /// From here on every connection that was begun was answered as wanted.
    pub all: Duration,
}

/// How long new connections failed, and how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trouble {
    /// From the event to the last failure that was no stray.
    pub lasted: Duration,
    pub failed: usize,
    pub strays: usize,
}

impl Calls {
    pub(crate) fn of(mut calls: Vec<Call>) -> Self {
        calls.sort_by_key(|call| call.begun);
        Self(calls)
    }

    #[must_use]
    pub fn number(&self) -> usize {
        self.0.len()
    }

    /// Counts the answers of those who are as wanted.
    pub fn answered_by(&self, wanted: impl Fn(&str) -> bool) -> usize {
        self.0.iter().filter(|call| call.is(&wanted)).count()
    }

    #[must_use]
    pub fn failed(&self) -> usize {
        self.0.iter().filter(|call| call.answered_by.is_err()).count()
    }

    /// Returns an error that shows the first failures, when there are any.
    pub fn none_failed(&self) -> anyhow::Result<()> {
        const SHOWN: usize = 5;
        let Some(first) = self.0.first() else { bail!("nobody called") };
        let errors = self.0.iter().filter_map(|call| {
            let at_ms = call.begun.duration_since(first.begun).as_millis();
            Some(format!("after {at_ms} ms: {}", call.answered_by.as_ref().err()?))
        });
        let shown: Vec<_> = errors.take(SHOWN).collect();
        let (failed, number) = (self.failed(), self.number());
        ensure!(shown.is_empty(), "{failed} of {number} failed\n  {}", shown.join("\n  "));
        Ok(())
    }

    /// Leaves out the calls that were under way while something was killed through which they went.
    #[must_use]
    pub fn not_under_way(&self, from: Instant, to: Instant) -> Self {
        let under_way = |call: &&Call| call.begun <= to && from <= call.ended;
        Self(self.0.iter().filter(|call| !under_way(call)).cloned().collect())
    }

    /// Returns the calls that were begun within a time.
    #[must_use]
    pub fn between(&self, from: Instant, to: Instant) -> Self {
        let within = |call: &&Call| call.begun >= from && call.begun < to;
        Self(self.0.iter().filter(within).cloned().collect())
    }

    /// Tells how soon after an event the calls were answered as wanted; an error when the last one was not.
    pub fn moved(&self, event: Instant, wanted: impl Fn(&str) -> bool) -> anyhow::Result<Moved> {
        let after: Vec<_> = self.0.iter().filter(|call| call.ended >= event).collect();
        let first = after.iter().filter(|call| call.is(&wanted)).map(|call| call.ended).min();
        let first = first.context("no call was answered as wanted")?;
        let last_other = after.iter().filter(|call| !call.is(&wanted)).map(|call| call.begun).max();
        let last = after.last().context("nobody called after the event")?.begun;
        ensure!(last_other.is_none_or(|other| other < last), "the last call was not answered so");
        let all = last_other.map_or(Duration::ZERO, |other| other.saturating_duration_since(event));
        Ok(Moved { first: first.saturating_duration_since(event), all })
    }

    /// Tells how long after an event somebody still failed, was kept waiting, or was answered by another; an error when
    /// that is not over.
    pub fn settled(
        &self,
        event: Instant,
        wanted: impl Fn(&str) -> bool,
    ) -> anyhow::Result<Duration> {
        let after = || self.0.iter().filter(|call| call.ended >= event);
        let is_well = |call: &Call| {
            call.is(&wanted) && call.ended.duration_since(call.begun.max(event)) < STALLED
        };
        ensure!(is_well(after().next_back().context("nobody called after the event")?), "not over");
        let last = after().filter(|call| !is_well(call)).map(|call| call.ended).max();
        Ok(last.map_or(Duration::ZERO, |ended| ended.duration_since(event)))
    }

    /// Tells how long new connections failed after an event.
    #[must_use]
    pub fn trouble(&self, event: Instant) -> Trouble {
        let failed: Vec<_> = self
            .0
            .iter()
            .filter(|call| call.begun >= event && call.answered_by.is_err())
            .map(|call| call.begun)
            .collect();
        let in_trouble: Vec<_> = failed.iter().filter(|begun| self.is_trouble(**begun)).collect();
        let lasted = in_trouble.last().map_or(Duration::ZERO, |last| last.duration_since(event));
        Trouble { lasted, failed: failed.len(), strays: failed.len() - in_trouble.len() }
    }

    #[expect(clippy::cast_precision_loss, reason = "at most a few hundred connections")]
    fn is_trouble(&self, at: Instant) -> bool {
        let around = self.between(at - AROUND, at + AROUND);
        around.failed() as f64 >= TROUBLE * around.number() as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Calls as (begun, took, who), in milliseconds after an event that they are counted from.
    fn calls(event: Instant, seen: &[(u64, u64, Result<&str, &str>)]) -> Calls {
        let call = |(begun, took, who): &(u64, u64, Result<&str, &str>)| Call {
            begun: event + ms(*begun),
            ended: event + ms(begun + took),
            answered_by: who.map(str::to_owned).map_err(str::to_owned),
        };
        Calls::of(seen.iter().map(call).collect())
    }

    #[test]
    fn a_move_has_a_first_answer_and_a_last_other_one() {
        let event = Instant::now();
        let seen =
            [(30, 1, Ok("pod")), (10, 1, Ok("pod")), (20, 5, Ok("laptop")), (40, 1, Ok("laptop"))];
        let moved = calls(event, &seen).moved(event, |name| name == "laptop").expect("it moved");
        assert_eq!(moved, Moved { first: ms(25), all: ms(30) });
    }

    #[test]
    fn a_move_that_is_not_complete_has_no_figure() {
        let event = Instant::now();
        let seen = [(10, 1, Ok("laptop")), (20, 1, Err("refused"))];
        assert!(calls(event, &seen).moved(event, |name| name == "laptop").is_err());
        assert!(calls(event, &seen).moved(event, |name| name == "pod").is_err());
    }

    /// Two replicas take turns for two seconds. Of those that the second one takes, `keeps` says until when it keeps
    /// them waiting.
    fn by_two(event: Instant, keeps: impl Fn(u64) -> Option<u64>) -> Calls {
        let one = |n: u64| {
            let begun = n * 10;
            let until = keeps(begun).filter(|_| n % 2 == 1).unwrap_or_default();
            (begun, until.saturating_sub(begun).max(1), Ok("pod"))
        };
        calls(event, &(0..200).map(one).collect::<Vec<_>>())
    }

    fn settled(calls: &Calls, event: Instant) -> Option<Duration> {
        calls.settled(event, |name| name == "pod").ok()
    }

    #[test]
    fn one_slow_replica_of_two_is_waited_for() {
        let event = Instant::now();
        assert_eq!(settled(&by_two(event, |_| None), event), Some(ms(0)));
        let slow = by_two(event, |begun| (begun < 1500).then_some(1500));
        assert_eq!(settled(&slow, event), Some(ms(1500)));
        assert_eq!(settled(&by_two(event, |begun| Some(begun + 500)), event), None, "for ever");
    }

    #[test]
    fn what_was_under_way_counts_from_the_event_and_a_failure_or_another_to_its_end() {
        let event = Instant::now();
        let seen = [
            (0, 90, Ok("pod")),
            (10, 55, Ok("laptop")),
            (20, 57, Err("reset")),
            (30, 1, Err("refused")),
            (80, 1, Ok("pod")),
        ];
        assert_eq!(settled(&calls(event, &seen), event + ms(50)), Some(ms(27)));
        assert_eq!(settled(&calls(event, &seen[..4]), event + ms(50)), None);
        assert_eq!(settled(&calls(event, &seen), event + ms(95)), None, "nobody called");
    }

    /// A connection every 10 ms for four seconds; those for which `fails` says so are refused.
    fn steady(event: Instant, fails: impl Fn(u64) -> bool) -> Calls {
        let seen: Vec<_> = (0..400)
            .map(|n| (n * 10, 1, if fails(n * 10) { Err("refused") } else { Ok("pod") }))
            .collect();
        calls(event, &seen)
    }

    #[test]
    fn trouble_lasts_while_every_second_connection_fails() {
        let event = Instant::now();
        let trouble = steady(event, |at| (500..=1500).contains(&at) && at % 20 == 0).trouble(event);
        assert_eq!(trouble, Trouble { lasted: ms(1500), failed: 51, strays: 0 });
    }

    #[test]
    fn single_failures_are_strays_wherever_they_are() {
        let event = Instant::now();
        let stray = |at| at == 50 || at == 3000 || at == 3200;
        let trouble = steady(event, stray).trouble(event);
        assert_eq!(trouble, Trouble { lasted: Duration::ZERO, failed: 3, strays: 3 });
        let trouble = steady(event, |at| stray(at) || (1000..1300).contains(&at)).trouble(event);
        assert_eq!((trouble.lasted, trouble.strays), (ms(1290), 3));
    }

    #[test]
    fn failures_before_the_event_are_not_its_doing() {
        let event = Instant::now();
        assert_eq!(steady(event, |at| at < 500).trouble(event + ms(1000)).failed, 0);
    }

    #[test]
    fn what_was_under_way_for_a_time_is_left_out_and_nothing_else() {
        let event = Instant::now();
        let seen = [(0, 9, Err("a")), (5, 10, Err("cut")), (12, 1, Err("cut")), (13, 1, Ok("pod"))];
        let left = calls(event, &seen).not_under_way(event + ms(10), event + ms(12));
        assert_eq!((left.number(), left.failed()), (2, 1));
    }

    #[test]
    fn a_failure_is_an_error_that_shows_it() {
        let event = Instant::now();
        let error = calls(event, &[(0, 1, Ok("pod")), (10, 1, Err("refused"))]).none_failed();
        assert!(error.expect_err("one failed").to_string().contains("after 10 ms: refused"));
        assert!(calls(event, &[]).none_failed().is_err(), "nobody called");
    }
}
