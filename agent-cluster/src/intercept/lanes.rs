//! The carriers of one intercept to one laptop: a first one, and further ones beside it while there is bulk.

use fairlead_tunnel::{
    carrier::CarrierHandle,
    opener::Opener,
    pool::{self, OnCarrier},
};
use tokio_util::sync::CancellationToken;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    First,
    /// Asked for by this replica; goes when it is not needed any more.
    Further,
}

/// One way to the laptop.
#[derive(Clone, Debug)]
pub(crate) struct Lane {
    pub(crate) opener: Opener,
    kind: Kind,
    /// Its last beat was answered.
    pub(crate) answers: bool,
    /// Ends the carrier itself.
    ends: CancellationToken,
    /// Cuts the streams under way; renewed when the laptop falls silent, because it may come back on the same carrier.
    pub(crate) cut: CancellationToken,
}

impl OnCarrier for Lane {
    fn carrier(&self) -> &CarrierHandle {
        self.opener.handle()
    }
}

impl Lane {
    pub(crate) fn new(opener: Opener, kind: Kind, ends: CancellationToken) -> Self {
        Self { opener, kind, answers: true, cut: ends.child_token(), ends }
    }

    pub(crate) fn is_on(&self, carrier: &CarrierHandle) -> bool {
        self.carrier().is_same(carrier)
    }

    pub(crate) fn takes_streams(&self) -> bool {
        self.carrier().takes_streams()
    }

    pub(crate) fn falls_silent(&mut self) {
        self.answers = false;
        self.cut.cancel();
        self.cut = self.ends.child_token();
    }
}

/// Adds a lane. A first one takes the place of the first one before, which takes no more streams and ends with those it
/// has: the laptop may have begun anew, or only have been offered a carrier twice. Whether the further ones are of any
/// use shows at their next beat.
pub(crate) fn take_in(lanes: &mut Vec<Lane>, new: Lane) {
    if new.kind == Kind::First {
        for lane in lanes.iter_mut() {
            match lane.kind {
                Kind::First => lane.carrier().drain(),
                Kind::Further => lane.answers = false,
            }
        }
    }
    lanes.push(new);
}

/// Chooses among the lanes that answer.
pub(crate) fn place(lanes: &[Lane]) -> Option<Lane> {
    pool::place(lanes.iter().filter(|lane| lane.answers)).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pair::{Met, Pair};

    /// A lane, and what keeps it.
    async fn lane(kind: Kind) -> (Lane, impl Sized) {
        let Met { acceptor, accepting, opener, opening } = Pair::new().intercepts().await;
        let lane = Lane::new(opener, kind, CancellationToken::new());
        (lane, (acceptor, accepting, tokio::spawn(opening)))
    }

    #[tokio::test]
    async fn a_laptop_that_began_anew_is_trusted_on_its_new_carrier_only() {
        let (old, _keep_old) = lane(Kind::First).await;
        let (further, _keep_further) = lane(Kind::Further).await;
        let (new, _keep_new) = lane(Kind::First).await;
        let mut lanes = Vec::new();
        take_in(&mut lanes, old.clone());
        take_in(&mut lanes, further.clone());
        assert!(lanes.iter().all(|lane| lane.answers), "a further one takes nobody's place");
        take_in(&mut lanes, new.clone());
        assert!(!old.takes_streams(), "it was drained");
        assert!(!old.ends.is_cancelled(), "what is under way on it goes on");
        assert!(further.takes_streams());
        assert_eq!(lanes.iter().map(|lane| lane.answers).collect::<Vec<_>>(), [true, false, true]);
        assert!(place(&lanes).expect("the new one").is_on(new.carrier()));
    }

    #[tokio::test]
    async fn a_lane_that_falls_silent_cuts_what_is_under_way_and_nothing_that_comes() {
        let (mut lane, _keep) = lane(Kind::First).await;
        let (under_way, mut lanes) = (lane.cut.child_token(), Vec::new());
        lane.falls_silent();
        assert!(under_way.is_cancelled() && !lane.cut.is_cancelled() && !lane.ends.is_cancelled());
        lanes.push(lane);
        assert!(place(&lanes).is_none(), "it does not answer");
    }
}
