//! What a replica sees of a session's laptop, and what all of them together make of it: *away*, and the grace after
//! which a laptop is lost.

use std::{collections::BTreeSet, time::Duration};

use fairlead_model::timers;
use serde::{Deserialize, Serialize};

/// A laptop that asked for an intercept has this long to bring its first carrier.
const FIRST_CARRIER: Duration = timers::TICKET_LIFE;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Sight {
    /// No carrier yet.
    Waiting,
    Live,
    Away,
}

/// What one replica sees of one session's laptop; told to the other replicas as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HoldSeen {
    pub(crate) sight: Sight,
    /// Ports whose whole path was passed by a connection since the laptop was last away.
    pub(crate) proven: BTreeSet<u16>,
    /// What the laptop said when it could not take a connection.
    pub(crate) refusal: Option<String>,
}

impl HoldSeen {
    pub(super) const fn waiting() -> Self {
        Self { sight: Sight::Waiting, proven: BTreeSet::new(), refusal: None }
    }
}

/// What all replicas together mean for a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Waiting,
    Live,
    Away,
    /// Never came.
    Absent,
    /// Was there, and was away for longer than the grace.
    Lost,
}

/// Judges a session wanted for `wanted_for`, whose laptop was last seen alive that long ago.
pub(crate) fn verdict(
    any_live: bool,
    since_live: Option<Duration>,
    wanted_for: Duration,
    grace: Duration,
) -> Verdict {
    match since_live {
        _ if any_live => Verdict::Live,
        Some(away_for) if away_for >= grace => Verdict::Lost,
        Some(_) => Verdict::Away,
        None if wanted_for >= FIRST_CARRIER.max(grace) => Verdict::Absent,
        None => Verdict::Waiting,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(15);

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn one_replica_that_sees_the_laptop_is_enough() {
        assert_eq!(verdict(true, Some(s(0)), s(100), GRACE), Verdict::Live);
    }

    #[test]
    fn a_laptop_is_away_until_the_grace_is_over() {
        assert_eq!(verdict(false, Some(s(14)), s(100), GRACE), Verdict::Away);
        assert_eq!(verdict(false, Some(s(15)), s(100), GRACE), Verdict::Lost);
    }

    #[test]
    fn no_grace_means_lost_at_once() {
        assert_eq!(verdict(false, Some(s(0)), s(1), s(0)), Verdict::Lost);
    }

    #[test]
    fn a_laptop_that_never_came_is_waited_for() {
        assert_eq!(verdict(false, None, s(29), GRACE), Verdict::Waiting);
        assert_eq!(verdict(false, None, s(30), GRACE), Verdict::Absent);
        assert_eq!(verdict(false, None, s(59), s(60)), Verdict::Waiting);
    }
}
