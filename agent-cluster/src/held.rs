//! How long a grant lasts here: reckoned once, when it is shown, and from then on by a clock that nobody sets.
//!
//! By the clock of the wall a jump ahead would cut live connections, and a jump back would let them live for longer. The
//! clock since boot is neither set, nor does it stand still while the machine sleeps.

use std::time::{Duration, SystemTime};

use fairlead_wire::grant::Grant;
use nix::time::{ClockId, clock_gettime};
use tokio::time::sleep;

/// The end of a sleep of the machine is noticed within this time: timers stand still meanwhile.
const LOOK: Duration = Duration::from_secs(30);

/// A grant that was good when it was shown, and when it ends, counted from boot.
#[derive(Debug)]
pub(crate) struct Held {
    grant: Grant,
    ends: Duration,
}

impl Held {
    pub(crate) fn shown_now(grant: Grant) -> Self {
        Self::shown(grant, SystemTime::now(), since_boot())
    }

    /// A clock that is behind the hub's makes no grant live for longer than the hub gave it.
    fn shown(grant: Grant, now: SystemTime, since_boot: Duration) -> Self {
        let from = now.max(grant.issued_at);
        let ends = since_boot + grant.expires_at.duration_since(from).unwrap_or_default();
        Self { grant, ends }
    }

    /// Returns the grant, unless it has run out.
    pub(crate) fn live(&self) -> Option<&Grant> {
        (since_boot() < self.ends).then_some(&self.grant)
    }

    /// Waits until it has run out.
    pub(crate) fn runs_out(&self) -> impl Future<Output = ()> + use<> {
        let ends = self.ends;
        async move {
            loop {
                let left = ends.saturating_sub(since_boot());
                if left.is_zero() {
                    return;
                }
                sleep(left.min(LOOK)).await;
            }
        }
    }
}

fn since_boot() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).expect("Linux has this clock").into()
}

#[cfg(test)]
mod tests {
    use fairlead_model::{
        GrantId, OrgId, SessionId, SessionKind, TeamspaceId, Thumbprint, UserId, timers::GRANT_LIFE,
    };

    use super::*;

    fn grant(issued_at: SystemTime) -> Grant {
        Grant {
            id: GrantId::generate(),
            session: SessionId::generate(),
            teamspace: TeamspaceId::generate(),
            organization: OrgId::generate(),
            user: UserId::generate(),
            device: Thumbprint::from_bytes([7; 32]),
            action: SessionKind::Consume,
            services: Vec::new(),
            hosts: Vec::new(),
            policy_version: 1,
            issued_at,
            expires_at: issued_at + GRANT_LIFE,
        }
    }

    #[test]
    fn a_grant_lasts_until_its_end_by_the_clock_that_read_it() {
        let (now, boot) = (SystemTime::now(), Duration::from_secs(1000));
        let minute = Duration::from_secs(60);
        let ends = |now| Held::shown(grant(now), now + minute, boot).ends;
        assert_eq!(ends(now), boot + GRANT_LIFE - minute);
        let over = Held::shown(grant(now), now + GRANT_LIFE + minute, boot);
        assert_eq!(over.ends, boot, "none at all is left");
    }

    #[test]
    fn a_clock_that_is_behind_lets_none_live_for_longer() {
        let (now, boot) = (SystemTime::now(), Duration::from_secs(1000));
        let behind = Held::shown(grant(now), now - Duration::from_secs(3600), boot);
        assert_eq!(behind.ends, boot + GRANT_LIFE);
    }

    #[tokio::test]
    async fn what_has_run_out_is_not_live() {
        let now = SystemTime::now();
        assert!(Held::shown_now(grant(now)).live().is_some());
        let over = Held::shown_now(grant(now - GRANT_LIFE));
        assert!(over.live().is_none());
        over.runs_out().await;
    }
}
