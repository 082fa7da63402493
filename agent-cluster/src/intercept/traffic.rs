//! The connections of all listeners of this replica: never more at once than it means to carry, and how many there are
//! and have been, so that a replica that stops knows when nobody is sent to it any more.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::timeout,
};

/// Connections of all intercepts together; beyond it new ones wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 16_384;

/// What the listeners share.
#[derive(Clone, Debug)]
pub(crate) struct Connections {
    slots: Arc<Semaphore>,
    arrived: Arc<AtomicU64>,
}

/// Connections as they were counted a moment ago.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Traffic {
    pub(crate) open: usize,
    /// Since the process began.
    pub(crate) arrived: u64,
}

impl Connections {
    pub(crate) fn none() -> Self {
        Self { slots: Arc::new(Semaphore::new(CONNECTIONS_MAX)), arrived: Arc::default() }
    }

    /// Counts a connection that has come, which is open for as long as what is returned is kept.
    pub(crate) async fn arrived(&self) -> OwnedSemaphorePermit {
        self.arrived.fetch_add(1, Ordering::Relaxed);
        Arc::clone(&self.slots).acquire_owned().await.expect("never closed")
    }

    pub(crate) fn traffic(&self) -> Traffic {
        let open = CONNECTIONS_MAX.saturating_sub(self.slots.available_permits());
        Traffic { open, arrived: self.arrived.load(Ordering::Relaxed) }
    }
}

/// Waits until no connection has come for this long, and none is open any more. Nodes follow a change of endpoints each
/// at its own pace; a busy one may take longer than most.
pub(crate) async fn falls_quiet(mut traffic: watch::Receiver<Traffic>, quiet: Duration) {
    loop {
        let before = traffic.borrow_and_update().arrived;
        let more = timeout(quiet, traffic.wait_for(|now| now.arrived != before)).await;
        match more {
            Ok(Ok(_)) => {}
            // Whoever counted is gone, and what came with it.
            Ok(Err(_)) => return,
            Err(_) => break,
        }
    }
    drop(traffic.wait_for(|now| now.open == 0).await);
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, sleep};

    use super::*;

    const QUIET: Duration = Duration::from_millis(1500);

    #[tokio::test]
    async fn connections_are_counted_while_they_are_open_and_afterwards() {
        let connections = Connections::none();
        let (one, other) = (connections.arrived().await, connections.arrived().await);
        assert_eq!(connections.traffic(), Traffic { open: 2, arrived: 2 });
        drop(one);
        assert_eq!(connections.traffic(), Traffic { open: 1, arrived: 2 });
        drop(other);
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_quiet_when_nobody_has_come_for_a_while_and_everybody_has_left() {
        let (traffic_tx, traffic_rx) = watch::channel(Traffic::default());
        let begun = Instant::now();
        let coming = async {
            for arrived in 1..=3 {
                sleep(QUIET / 2).await;
                traffic_tx.send_replace(Traffic { open: 1, arrived });
            }
            sleep(QUIET * 4).await;
            traffic_tx.send_replace(Traffic { open: 0, arrived: 3 });
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = coming => {}
            () = falls_quiet(traffic_rx, QUIET) => {}
        }
        assert_eq!(begun.elapsed(), QUIET / 2 * 3 + QUIET * 4);

        let (_traffic_tx, traffic_rx) = watch::channel(Traffic::default());
        let begun = Instant::now();
        falls_quiet(traffic_rx, QUIET).await;
        assert_eq!(begun.elapsed(), QUIET, "nobody came at all");
    }
}
