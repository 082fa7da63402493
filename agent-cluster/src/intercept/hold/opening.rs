//! One request's way to the laptop, and what is learnt of the laptop by it. When there is no way the request goes to
//! the pods, which is `originals.rs`.

use std::sync::atomic::Ordering;

use fairlead_model::{Port, ServiceRef, timers};
use fairlead_tunnel::{opener::OpenFailed, stream::Stream};
use fairlead_wire::open::{OpenRequest, Refused};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::{super::lanes, Hold};

/// A connection the laptop took, and the token that ends it when the laptop is away or the session over.
pub(crate) struct Taken {
    pub(crate) stream: Stream,
    pub(crate) cut: CancellationToken,
}

impl Hold {
    /// Opens a connection to the laptop's port, or says that it has to go to the pods.
    pub(crate) async fn open(
        &self,
        service: &ServiceRef,
        port: Port,
        probe: bool,
    ) -> Option<Taken> {
        let request = OpenRequest::tcp(self.session, service.clone(), port);
        let request = OpenRequest { probe, ..request };
        match timeout(timers::INTERCEPT_CONNECT, self.open_on_some_lane(&request)).await {
            Ok(Some(Ok(taken))) => {
                self.passed(port);
                Some(taken)
            }
            Ok(Some(Err(refused))) => {
                self.refused(port, refused.to_string());
                None
            }
            Ok(None) => None,
            Err(_) => {
                debug!(session = %self.session, "The laptop's port does not answer in time");
                self.is_doubted();
                None
            }
        }
    }

    /// Opens a stream on the best lane, and on the next one when that is lost; `None` when none is left.
    async fn open_on_some_lane(&self, request: &OpenRequest) -> Option<Result<Taken, Refused>> {
        while !self.inner.ended.load(Ordering::Relaxed) {
            let lane = lanes::place(&self.inner.lanes.borrow())?;
            match lane.opener.open(request).await {
                Ok(stream) => return Some(Ok(Taken { stream, cut: lane.cut.child_token() })),
                Err(OpenFailed::Refused(refused)) => return Some(Err(refused)),
                Err(failed) => {
                    debug!(session = %self.session, %failed, "A connection could not be opened at the laptop");
                    self.lane_of(lane.opener.handle(), |lane| lane.answers = false);
                }
            }
        }
        None
    }

    /// Requests go to the pods at once, whichever lane is to blame; the next beats show which of them answer.
    fn is_doubted(&self) {
        self.inner.lanes.send_if_modified(|lanes| {
            lanes.iter_mut().for_each(|lane| lane.answers = false);
            false
        });
        self.look();
    }

    fn passed(&self, port: Port) {
        self.see(|seen| {
            let news = seen.proven.insert(port.get()) || seen.refusal.is_some();
            seen.refusal = None;
            news
        });
    }

    fn refused(&self, port: Port, refusal: String) {
        self.see(|seen| {
            let news = seen.proven.remove(&port.get()) || seen.refusal.as_ref() != Some(&refusal);
            seen.refusal = Some(refusal);
            news
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::{super::lanes::Kind, Sight, tests::Held};

    #[tokio::test]
    async fn a_stream_takes_another_lane_when_the_best_one_is_lost() {
        let held = Held::with(&[Kind::First, Kind::Further]).await;
        let _on_the_first = held.opens().await.expect("opened");
        assert_eq!(held.streams(), [1, 0]);
        // Closed, and its end not noticed yet: the task that carries it has had no turn.
        held.carriers[1].handle.close();
        let _on_the_first_too = held.opens().await.expect("opened all the same");
        assert_eq!(held.streams(), [2, 0]);
        assert_eq!(held.hold.seen().sight, Sight::Live);
    }
}
