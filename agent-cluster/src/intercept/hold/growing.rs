//! How many carriers there are to one laptop: further ones beside the first while there is bulk, and none that is not
//! needed. When that is so is said by the rules that the laptop has too (`protocol/tunnel/src/pool.rs`).

use fairlead_model::SessionId;
use fairlead_tunnel::{
    carrier::CarrierHandle,
    pool::{self, CARRIERS_MAX, GROW_AGAIN},
};
use tokio::{sync::mpsc, time::timeout};

use super::Hold;

impl Hold {
    /// Says that a further carrier is wanted, whenever there is bulk enough for one. Returns never.
    pub(crate) async fn grow(&self, wanted: &mpsc::Sender<SessionId>) {
        let mut lanes_rx = self.inner.lanes.subscribe();
        loop {
            pool::full(&mut lanes_rx).await;
            // A full queue is a hub that does not listen; it is said again below.
            let _said = wanted.try_send(self.session);
            // Until it is there, or has come to nothing.
            let _came = timeout(GROW_AGAIN, lanes_rx.changed()).await;
        }
    }

    /// Says whether one carrier more may stand beside those that are there.
    pub(crate) fn may_grow(&self) -> bool {
        let lanes = self.inner.lanes.borrow();
        (1..CARRIERS_MAX).contains(&lanes.iter().filter(|lane| lane.takes_streams()).count())
    }

    /// Returns when a further carrier has had no bulk for a while and what was open on it has ended.
    pub(super) async fn spare(&self, handle: &CarrierHandle) {
        let mut lanes_rx = self.inner.lanes.subscribe();
        loop {
            handle.quiet().await;
            lanes_rx.mark_unchanged();
            let mut retired = false;
            self.inner.lanes.send_if_modified(|lanes| {
                retired = pool::retire(lanes, handle);
                false
            });
            if retired {
                return handle.unused().await;
            }
            // It is the only one that is left, and stays until there is another.
            if lanes_rx.changed().await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use fairlead_tunnel::pool::FURTHER_QUIET;
    use tokio::io::AsyncWriteExt as _;
    use tokio_util::task::AbortOnDropHandle;

    use super::{
        super::{super::lanes::Kind, Sight, Taken, tests::Held},
        *,
    };

    #[tokio::test]
    async fn bulk_on_every_carrier_makes_the_replica_want_another_until_there_are_four() {
        let mut held = Held::with(&[Kind::First]).await;
        let (wanted_tx, mut wanted_rx) = mpsc::channel(8);
        let hold = held.hold.clone();
        let _growing = AbortOnDropHandle::new(tokio::spawn(async move {
            hold.grow(&wanted_tx).await;
        }));
        let mut bulk = Vec::new();
        for carriers in 1..=CARRIERS_MAX {
            let mut taken = held.opens().await.expect("opened");
            assert_eq!(held.streams().last(), Some(&1), "bulk keeps away from bulk");
            becomes_bulk(&mut taken).await;
            bulk.push(taken);
            assert_eq!(held.hold.may_grow(), carriers < CARRIERS_MAX);
            if carriers < CARRIERS_MAX {
                assert_eq!(wanted_rx.recv().await, Some(held.hold.session));
                held.gets(Kind::Further).await;
            }
        }
        tokio::task::yield_now().await;
        assert!(wanted_rx.try_recv().is_err(), "there are four");
    }

    #[tokio::test(start_paused = true)]
    async fn a_further_carrier_goes_when_it_is_quiet_and_its_last_stream_has_ended() {
        let mut held = Held::with(&[Kind::First, Kind::Further]).await;
        let first = held.opens().await.expect("opened");
        let further = held.opens().await.expect("opened");
        assert_eq!(held.streams(), [1, 1]);
        tokio::time::sleep(FURTHER_QUIET * 2).await;
        assert!(!held.carriers[1].handle.is_closed(), "a stream is open on it");
        let _on_the_first = held.opens().await.expect("opened");
        assert_eq!(held.streams(), [2, 1], "it takes no more");
        drop(further);
        held.carriers[1].handle.closed().await;
        assert!(!first.cut.is_cancelled());
        held.carriers.remove(1);
        assert_eq!(held.hold.seen().sight, Sight::Live);
    }

    async fn becomes_bulk(taken: &mut Taken) {
        taken.stream.write_all(&[7; 300 << 10]).await.expect("there is window for it");
    }
}
