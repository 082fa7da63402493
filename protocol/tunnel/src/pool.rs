//! Which of a tunnel's carriers a new stream takes, and when there should be more or fewer of them.
//!
//! A tunnel is one carrier while nothing large passes. Bulk on a carrier makes the other streams of it wait behind what
//! is in flight, for long where the network loses packets, so a tunnel in which every carrier has bulk gets another one.
//! Whoever opens streams decides all this, at the laptop and at the agent by the same rules; making and closing carriers
//! is theirs. No stream waits for a carrier that is being made, and a tunnel that cannot grow goes on as it is.

use std::{
    future::{pending, poll_fn},
    task::Poll,
    time::Duration,
};

use tokio::{sync::watch, time::timeout};

use crate::{carrier::CarrierHandle, load::Load, opener::Opener};

/// Carriers of one tunnel in one direction. More gain nothing on a good network, and cost a socket at each of three
/// processes.
pub const CARRIERS_MAX: usize = 4;
/// A further carrier without bulk is kept for so long: whoever moves one large thing after another does not pay for a
/// new connection each time. Then small streams are together again, which share packets and system calls only on one
/// carrier, and an idle laptop holds no more than it needs.
pub const FURTHER_QUIET: Duration = Duration::from_secs(45);
/// A tunnel that wanted to grow and could not tries again after this time, if it still wants to.
pub const GROW_AGAIN: Duration = Duration::from_secs(10);

/// What has a carrier and may be chosen for a new stream.
pub trait OnCarrier {
    fn carrier(&self) -> &CarrierHandle;
}

impl OnCarrier for Opener {
    fn carrier(&self) -> &CarrierHandle {
        self.handle()
    }
}

/// Chooses where a new stream goes, among carriers that take streams: fewest bulk streams first, then none that has just
/// ended and whose bytes may be on their way, then fewest streams.
pub fn place<'c, T: OnCarrier>(carriers: impl IntoIterator<Item = &'c T>) -> Option<&'c T> {
    let taking = carriers.into_iter().filter(|carrier| carrier.carrier().takes_streams());
    taking.min_by_key(|carrier| carrier.carrier().weight())
}

/// Waits until another carrier is worth asking for.
pub async fn full<T: OnCarrier>(carriers: &mut watch::Receiver<Vec<T>>) {
    loop {
        let handles = taking(&carriers.borrow_and_update());
        let mut changes: Vec<_> = handles.iter().map(CarrierHandle::bulk_changes).collect();
        let loads: Vec<Load> = handles.iter().map(CarrierHandle::load).collect();
        if wants_another(&loads) {
            return;
        }
        tokio::select! {
            changed = carriers.changed() => if changed.is_err() {
                pending::<()>().await;
            },
            () = any_of(&mut changes) => {}
        }
    }
}

/// Takes a further carrier out of use, unless no other one takes streams; says whether it did. What is open on it goes
/// on. To be called under the lock that guards `carriers`, so that two of them do not make room for each other.
pub fn retire<T: OnCarrier>(carriers: &[T], further: &CarrierHandle) -> bool {
    let others = taking(carriers).len() > 1;
    if others {
        further.drain();
    }
    others
}

fn taking<T: OnCarrier>(carriers: &[T]) -> Vec<CarrierHandle> {
    let handles = carriers.iter().map(OnCarrier::carrier);
    handles.filter(|handle| handle.takes_streams()).cloned().collect()
}

/// A tunnel without any carrier does not grow: it begins, which is another story.
fn wants_another(loads: &[Load]) -> bool {
    (1..CARRIERS_MAX).contains(&loads.len()) && loads.iter().all(|load| load.bulk > 0)
}

async fn any_of(changes: &mut [watch::Receiver<Load>]) {
    let mut waits: Vec<_> = changes.iter_mut().map(|change| Box::pin(change.changed())).collect();
    poll_fn(|cx| {
        let happened = waits.iter_mut().any(|wait| wait.as_mut().poll(cx).is_ready());
        if happened { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

impl CarrierHandle {
    /// Waits until no stream has been bulk for [`FURTHER_QUIET`].
    pub async fn quiet(&self) {
        let mut load = self.bulk_changes();
        loop {
            // Whoever waits holds the carrier, and so the sender of its load.
            drop(load.wait_for(|load| load.bulk == 0).await);
            if timeout(FURTHER_QUIET, load.wait_for(|load| load.bulk > 0)).await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{carrier::Controls, load::StreamCount};

    const BULK: usize = 300 << 10;

    struct Carrier {
        handle: CarrierHandle,
        streams: Vec<StreamCount>,
        _controls: Controls,
    }

    impl OnCarrier for Carrier {
        fn carrier(&self) -> &CarrierHandle {
            &self.handle
        }
    }

    fn carrier(bulk: usize, small: usize) -> Carrier {
        let (controls, handle) = Controls::new();
        let mut carrier = Carrier { handle, streams: Vec::new(), _controls: controls };
        for _ in 0..bulk {
            carrier.opens().sent(BULK);
        }
        for _ in 0..small {
            carrier.opens();
        }
        carrier
    }

    impl Carrier {
        fn opens(&mut self) -> &StreamCount {
            self.streams.push(self.handle.count_stream());
            self.streams.last().expect("pushed")
        }
    }

    #[track_caller]
    fn chooses(loads: &[(usize, usize)], expected: usize) {
        let carriers: Vec<_> = loads.iter().map(|(bulk, small)| carrier(*bulk, *small)).collect();
        let placed = place(&carriers).expect("one takes streams");
        assert!(std::ptr::eq(placed, &raw const carriers[expected]), "{loads:?}");
    }

    #[test]
    fn a_stream_goes_where_the_least_bulk_is_and_then_where_the_fewest_streams_are() {
        chooses(&[(0, 0)], 0);
        chooses(&[(1, 0), (0, 9)], 1);
        chooses(&[(2, 0), (1, 5), (1, 4), (3, 0)], 2);
        chooses(&[(0, 2), (0, 1), (0, 1)], 1);
    }

    #[test]
    fn one_connection_after_the_other_stays_on_the_first_carrier() {
        let carriers = [carrier(0, 1), carrier(0, 0)];
        assert!(std::ptr::eq(place(&carriers).expect("the idle one"), &raw const carriers[1]));
        carriers[0].streams[0].half_closed();
        assert!(std::ptr::eq(place(&carriers).expect("the first one"), &raw const carriers[0]));
    }

    #[tokio::test(start_paused = true)]
    async fn where_bulk_has_just_ended_its_bytes_may_still_be_on_their_way() {
        let mut carriers = [carrier(1, 0), carrier(0, 5)];
        carriers[0].streams.clear();
        let placed = || place(&carriers).map(|placed| std::ptr::eq(placed, &raw const carriers[0]));
        assert_eq!(placed(), Some(false));
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(placed(), Some(true));
    }

    #[test]
    fn no_stream_goes_to_a_carrier_that_has_ended_or_is_on_its_way_out() {
        let (closed, drained, busy) = (carrier(0, 0), carrier(0, 0), carrier(3, 3));
        closed.handle.close();
        drained.handle.drain();
        let carriers = [closed, drained, busy];
        assert!(std::ptr::eq(place(&carriers).expect("the busy one"), &raw const carriers[2]));
        assert!(place(&carriers[..2]).is_none());
    }

    #[test]
    fn another_carrier_is_wanted_when_each_has_bulk_and_there_are_fewer_than_four() {
        let (bulk, small) = (
            Load { bulk: 1, streams: 1, ..Load::default() },
            Load { bulk: 0, streams: 9, ..Load::default() },
        );
        assert!(wants_another(&[bulk]));
        assert!(wants_another(&[bulk; CARRIERS_MAX - 1]));
        assert!(!wants_another(&[bulk; CARRIERS_MAX]));
        assert!(!wants_another(&[bulk, small]));
        assert!(!wants_another(&[]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_tunnel_is_full_as_soon_as_its_last_carrier_has_bulk() {
        let carriers = watch::Sender::new(vec![carrier(1, 0), carrier(0, 0)]);
        let mut seen = carriers.subscribe();
        let waiting = tokio::spawn(async move { full(&mut seen).await });
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert!(!waiting.is_finished());
        carriers.send_modify(|carriers| carriers[1].opens().received(BULK));
        waiting.await.expect("it is full");
    }

    #[tokio::test(start_paused = true)]
    async fn a_carrier_that_is_lost_may_leave_a_full_tunnel() {
        let carriers = watch::Sender::new(vec![carrier(1, 0), carrier(0, 0)]);
        let mut seen = carriers.subscribe();
        let waiting = tokio::spawn(async move { full(&mut seen).await });
        tokio::task::yield_now().await;
        carriers.send_modify(|carriers| drop(carriers.pop()));
        waiting.await.expect("it is full");
    }

    #[tokio::test(start_paused = true)]
    async fn a_further_carrier_is_quiet_some_time_after_its_last_bulk() {
        let mut further = carrier(1, 1);
        let handle = further.handle.clone();
        let quiet = tokio::spawn(async move { handle.quiet().await });
        tokio::time::sleep(FURTHER_QUIET * 10).await;
        assert!(!quiet.is_finished(), "there is bulk");
        further.streams.remove(0);
        tokio::time::sleep(FURTHER_QUIET / 2).await;
        further.opens().sent(BULK);
        tokio::time::sleep(FURTHER_QUIET * 10).await;
        assert!(!quiet.is_finished(), "there is bulk again");
        further.streams.pop();
        let begun = tokio::time::Instant::now();
        quiet.await.expect("it becomes quiet");
        assert!(begun.elapsed() >= FURTHER_QUIET, "{:?}", begun.elapsed());
        assert_eq!(further.handle.load().streams, 1, "an idle stream is no bulk");
    }

    #[test]
    fn the_last_carrier_that_takes_streams_stays() {
        let carriers = [carrier(0, 0), carrier(0, 0)];
        assert!(retire(&carriers, &carriers[1].handle));
        assert!(!carriers[1].handle.takes_streams());
        assert!(!retire(&carriers, &carriers[0].handle));
        assert!(carriers[0].handle.takes_streams());
    }
}
