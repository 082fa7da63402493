//! What the writer remembers about one Service between two looks: how far its intercept is, which change is under
//! way, and how often somebody else undid it. Everything that must survive is in the cluster; this may be lost.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use fairlead_model::SessionId;

use super::plan::{Change, Redirect};
use crate::{
    names::SENTINEL,
    seen::{OwnSlice, ServiceSeen},
};

/// A key that is removed more often than this within the window is contested.
const READDS_MAX: usize = 5;
const READDS_WINDOW: Duration = Duration::from_secs(600);
/// How long after the n-th removal the key is added again; the owner's pipeline may still be writing.
const READD_AFTER: [Duration; READDS_MAX] = [
    Duration::from_millis(200),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
];
/// The watch shows our own change within this time, or it is planned again.
const ECHO: Duration = Duration::from_secs(1);
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Not examined yet; nothing of the Service has been changed.
    Fresh,
    /// The API is being asked.
    Asking,
    /// The API would take the key; whether the replicas reach the pods is not known yet.
    Allowed,
    Accepted,
}

#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) session: Option<SessionId>,
    pub(crate) stage: Stage,
    pub(crate) allowed_at: Instant,
    pub(crate) accepted_at: Instant,
    /// A change is being made; no other is planned until it is done.
    pub(crate) busy: bool,
    pub(crate) announced: bool,
    /// At the last look there was nothing to do.
    pub(crate) settled: bool,
    /// Why the last change, or examination, did not come about; gone when one does.
    pub(crate) trouble: Option<String>,
    expected: Option<Expected>,
    retry_at: Instant,
    retry_after: Duration,
    key_on: bool,
    key_unchanged_since: Instant,
    key_stood: bool,
    removed: VecDeque<Instant>,
    knocked_at: Option<Instant>,
    knocks: u32,
}

/// What the watch has to show before the next plan is made: planning on a view older than our own change would make
/// that change again.
#[derive(Debug)]
struct Expected {
    key: Option<Option<String>>,
    slice: Option<Option<Redirect>>,
    /// No entry of ours in `managedFields`.
    clean: bool,
    until: Instant,
}

impl Expected {
    fn is_shown(&self, service: Option<&ServiceSeen>, slice: Option<&OwnSlice>) -> bool {
        let key = self.key.as_ref().is_none_or(|key| {
            service.is_none_or(|s| s.selector.get(SENTINEL).map(String::as_str) == key.as_deref())
        });
        let slice = self.slice.as_ref().is_none_or(|wanted| match (wanted, slice) {
            (None, None) => true,
            (Some(wanted), Some(slice)) => {
                slice.ports == wanted.ports && slice.endpoints.len() == wanted.endpoints.len()
            }
            _ => false,
        });
        let clean = !self.clean || service.is_none_or(|service| !service.bears_our_manager);
        key && slice && clean
    }
}

/// What to do about a key that somebody removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Removal {
    AddAgain,
    AddLater,
    Contested,
}

impl Case {
    pub(crate) fn new(session: Option<SessionId>, now: Instant) -> Self {
        Self {
            session,
            stage: Stage::Fresh,
            allowed_at: now,
            accepted_at: now,
            busy: false,
            announced: false,
            settled: false,
            trouble: None,
            expected: None,
            retry_at: now,
            retry_after: RETRY_FIRST,
            key_on: false,
            key_unchanged_since: now,
            key_stood: false,
            removed: VecDeque::new(),
            knocked_at: None,
            knocks: 0,
        }
    }

    pub(crate) fn allow(&mut self, now: Instant) {
        self.stage = Stage::Allowed;
        self.allowed_at = now;
    }

    pub(crate) fn accept(&mut self, now: Instant) {
        self.stage = Stage::Accepted;
        self.accepted_at = now;
    }

    /// Says whether a plan may be made now: nothing under way, and our last change is visible.
    pub(crate) fn may_plan(
        &mut self,
        service: Option<&ServiceSeen>,
        slice: Option<&OwnSlice>,
        now: Instant,
    ) -> bool {
        if self.expected.as_ref().is_some_and(|e| e.is_shown(service, slice) || now >= e.until) {
            self.expected = None;
        }
        !self.busy && self.expected.is_none() && now >= self.retry_at
    }

    /// Notes that `changes` were made, so that the next plan waits until they are seen.
    pub(crate) fn made(&mut self, changes: &[Change], redirect: Option<&Redirect>, now: Instant) {
        let mut expected = Expected { key: None, slice: None, clean: false, until: now + ECHO };
        for change in changes {
            match change {
                Change::AddKey => {
                    expected.key = Some(redirect.map(|r| r.sentinel.to_string()));
                    expected.clean = true;
                }
                Change::RemoveKey => {
                    expected.key = Some(None);
                    expected.clean = true;
                }
                Change::WriteBack => expected.clean = true,
                Change::CreateSlice | Change::PatchSlice => {
                    expected.slice = Some(redirect.cloned())
                }
                Change::DeleteSlice => expected.slice = Some(None),
            }
        }
        self.busy = false;
        self.trouble = None;
        self.retry_after = RETRY_FIRST;
        self.expected = Some(expected);
    }

    /// Notes that nothing was learnt, and has it examined again later. A change may be under way meanwhile.
    pub(crate) fn examined_in_vain(&mut self, reason: String, now: Instant) {
        self.stage = Stage::Fresh;
        self.tries_later(reason, now);
    }

    pub(crate) fn failed(&mut self, reason: String, now: Instant) {
        self.busy = false;
        self.tries_later(reason, now);
    }

    fn tries_later(&mut self, reason: String, now: Instant) {
        self.trouble = Some(reason);
        self.retry_at = now + self.retry_after;
        self.retry_after = (self.retry_after * 2).min(RETRY_MAX);
    }

    pub(crate) fn may_try(&self, now: Instant) -> bool {
        !self.busy && now >= self.retry_at
    }

    /// Follows the key: since when it is there, or missing, and whether it ever stood for this session.
    pub(crate) fn saw_key(&mut self, stands: bool, now: Instant) {
        self.key_stood |= stands;
        if stands != self.key_on {
            self.key_on = stands;
            self.key_unchanged_since = now;
        }
    }

    pub(crate) fn key_unchanged_for(&self, now: Instant) -> Duration {
        now - self.key_unchanged_since
    }

    /// Says whether somebody has undone this more than once lately, and the key is missing again.
    pub(crate) fn is_fought_over(&self) -> bool {
        !self.key_on && self.removed.len() > 1
    }

    /// Decides about a key that should stand and does not.
    pub(crate) fn removal(&mut self, now: Instant) -> Removal {
        if !self.key_stood {
            return Removal::AddAgain;
        }
        while self.removed.front().is_some_and(|at| now - *at > READDS_WINDOW) {
            self.removed.pop_front();
        }
        let Some(after) = READD_AFTER.get(self.removed.len()) else { return Removal::Contested };
        if self.key_unchanged_for(now) < *after {
            return Removal::AddLater;
        }
        self.removed.push_back(now);
        self.key_stood = false;
        Removal::AddAgain
    }

    /// Says whether it is time for a probe: quickly at first, then once a second.
    pub(crate) fn may_knock(&mut self, now: Instant) -> bool {
        let pause = Duration::from_millis(if self.knocks < 40 { 50 } else { 1000 });
        let due = self.knocked_at.is_none_or(|at| now - at >= pause);
        if due {
            self.knocked_at = Some(now);
            self.knocks += 1;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::made_up;

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn removed_again_and_again(case: &mut Case, mut now: Instant) -> Vec<Removal> {
        let mut seen = Vec::new();
        for _ in 0..6 {
            case.saw_key(true, now);
            case.saw_key(false, now);
            now += s(5);
            seen.push(case.removal(now));
        }
        seen
    }

    #[test]
    fn a_key_is_added_again_five_times_and_then_contested() {
        let now = Instant::now();
        let seen = removed_again_and_again(&mut Case::new(None, now), now);
        assert_eq!(seen[..5], [Removal::AddAgain; 5]);
        assert_eq!(seen[5], Removal::Contested);
    }

    #[test]
    fn removals_long_ago_do_not_count() {
        let now = Instant::now();
        let mut case = Case::new(None, now);
        removed_again_and_again(&mut case, now);
        let later = now + s(700);
        case.saw_key(true, later);
        case.saw_key(false, later);
        assert_eq!(case.removal(later + s(1)), Removal::AddAgain);
    }

    #[test]
    fn an_examination_does_not_end_a_change_that_is_under_way() {
        let now = Instant::now();
        let mut case = Case::new(None, now);
        case.busy = true;
        case.examined_in_vain("the API did not answer".to_owned(), now);
        assert!(!case.may_try(now + s(60)), "two changes at once");
        case.failed("it did not, again".to_owned(), now);
        assert!(case.may_try(now + s(60)));
    }

    #[test]
    fn the_first_addition_is_no_removal() {
        let now = Instant::now();
        let mut case = Case::new(None, now);
        case.saw_key(false, now);
        assert_eq!(case.removal(now), Removal::AddAgain);
        assert!(case.removed.is_empty());
    }

    #[test]
    fn the_owners_pipeline_gets_a_moment_before_the_key_returns() {
        let now = Instant::now();
        let mut case = Case::new(None, now);
        case.saw_key(true, now);
        case.saw_key(false, now);
        assert_eq!(case.removal(now), Removal::AddLater);
        assert_eq!(case.removal(now + s(1)), Removal::AddAgain);
    }

    #[test]
    fn nothing_is_planned_before_our_own_change_is_visible() {
        let now = Instant::now();
        let mut case = Case::new(None, now);
        case.made(&[Change::CreateSlice], None, now);
        assert!(case.may_plan(None, None, now), "a deleted slice would be no slice");
        case.expected =
            Some(Expected { slice: Some(Some(redirect())), ..nothing_expected(now + ECHO) });
        assert!(!case.may_plan(None, None, now));
        assert!(case.may_plan(None, None, now + ECHO), "the watch may be late, not for ever");
    }

    #[test]
    fn an_entry_left_in_managed_fields_is_waited_out_after_a_change_of_ours() {
        let now = Instant::now();
        let mut case = Case::new(None, now);
        case.made(&[Change::RemoveKey], None, now);
        let mut seen = service();
        seen.bears_our_manager = true;
        assert!(!case.may_plan(Some(&seen), None, now), "the write-back is on its way");
        seen.bears_our_manager = false;
        assert!(case.may_plan(Some(&seen), None, now));
    }

    #[test]
    fn a_change_that_failed_is_tried_again_later_and_says_why() {
        let now = Instant::now();
        let mut case = Case::new(None, now);
        case.failed("the API is away".to_owned(), now);
        assert!(!case.may_plan(None, None, now) && !case.may_try(now));
        assert_eq!(case.trouble.as_deref(), Some("the API is away"));
        assert!(case.may_plan(None, None, now + RETRY_FIRST) && case.may_try(now + RETRY_FIRST));
        case.made(&[Change::WriteBack], None, now);
        assert_eq!(case.trouble, None);
    }

    fn nothing_expected(until: Instant) -> Expected {
        Expected { key: None, slice: None, clean: false, until }
    }

    fn service() -> ServiceSeen {
        made_up::cart(json!({}))
    }

    fn redirect() -> Redirect {
        let owner = crate::names::Owner::of("ns", "a=b");
        Redirect {
            sentinel: owner.sentinel(SessionId::generate()),
            ports: Vec::new(),
            endpoints: Vec::new(),
        }
    }
}
