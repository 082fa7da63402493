//! Heartbeats: on their own, so that a database that answers slowly makes no link look dead.

use fairlead_model::timers::LINK_HEARTBEAT;
use tokio::{sync::mpsc, time};
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// Says `beat` to the peer until the link ends. A full queue means that the peer does not read: the link ends.
pub(super) async fn keep<M: Clone>(
    beat: M,
    down_tx: mpsc::Sender<Result<M, Status>>,
    ended: CancellationToken,
) {
    let mut due = time::interval(LINK_HEARTBEAT);
    loop {
        tokio::select! {
            () = ended.cancelled() => break,
            _ = due.tick() => {
                if down_tx.try_send(Ok(beat.clone())).is_err() {
                    ended.cancel();
                }
            }
        }
    }
}
