//! How a link goes, whoever is at the other end: a challenge, a hello, a welcome; then words both ways until one of
//! the two falls silent. What the words mean is in `cluster.rs` and `laptop.rs`.

use std::time::Duration;

use fairlead_model::timers::{CLOCK_SKEW, LINK_DEAD};
use fairlead_wire::{
    challenge::{self, NONCE_BYTES},
    link::v1::{Challenge, Hello},
};
use jiff::Timestamp;
use tokio::{
    sync::mpsc,
    time::{self, Instant},
};
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming};

use super::{
    Down, QUEUE, beat,
    doorway::{Doorway, Stranger},
    registry::Registered,
};
use crate::Hub;

/// Whoever connects says hello within this time.
const HELLO_DEADLINE: Duration = Duration::from_secs(10);

/// Where what is said to one peer waits.
pub(super) type DownTx<P> = mpsc::Sender<Result<<P as Peer>::Down, Status>>;

/// One kind of peer, welcomed.
#[tonic::async_trait]
pub(super) trait Peer: Sized + Send + Sync + 'static {
    /// Messages as they come up, and what is in them.
    type Up: Send + 'static;
    type Said: Send;
    type Down: Clone + Send + 'static;
    /// Who it is, before it is welcomed.
    type Proven: Send;

    /// What the log calls it, with its article.
    const NOUN: &'static str;
    /// What it calls the machine whose clock it says.
    const WHOSE_CLOCK: &'static str;
    /// What it is told when the hub ends its link.
    const ENDED: &'static str;

    fn said(up: Self::Up) -> Option<Self::Said>;
    fn hello(said: Self::Said) -> Option<Hello>;
    fn challenge(challenge: Challenge) -> Self::Down;
    fn heartbeat() -> Self::Down;

    async fn prove(
        hub: &Hub,
        hello: &Hello,
        nonce: &[u8; NONCE_BYTES],
    ) -> Result<Self::Proven, Status>;

    /// Tells it that it is welcome, and gives it its place in the registry.
    async fn welcome(
        hub: Hub,
        proven: Self::Proven,
        down_tx: &DownTx<Self>,
    ) -> Result<Self, Status>;

    fn name(&self) -> String;
    fn place(&self) -> &Registered;

    /// Acts on what it says; the error says why it could not be taken.
    async fn heard(&mut self, said: Self::Said) -> Result<(), String>;

    /// Tidies up after it.
    async fn end(self);
}

/// Takes in somebody who wants to open a link.
pub(super) fn open<P: Peer>(
    hub: &Hub,
    doorway: &Doorway,
    request: Request<Streaming<P::Up>>,
) -> Result<Response<Down<P::Down>>, Status> {
    let stranger = doorway.enter(request.extensions())?;
    let (down_tx, down_rx) = mpsc::channel(QUEUE);
    hub.tasks.spawn(serve::<P>(hub.clone(), stranger, request.into_inner(), down_tx));
    Ok(Response::new(Box::pin(ReceiverStream::new(down_rx))))
}

/// Serves one link until it ends, for whatever reason; the reason is told to the peer where it can still hear.
async fn serve<P: Peer>(
    hub: Hub,
    stranger: Stranger,
    mut up: Streaming<P::Up>,
    down_tx: DownTx<P>,
) {
    let Ok(greeted) =
        time::timeout(HELLO_DEADLINE, greet::<P>(&hub, stranger, &mut up, &down_tx)).await
    else {
        return;
    };
    let welcomed = match greeted {
        Ok(proven) => P::welcome(hub.clone(), proven, &down_tx).await,
        Err(status) => Err(status),
    };
    match welcomed {
        Ok(mut peer) => {
            let ended = peer.place().ended.clone();
            hub.tasks.spawn(beat::keep(P::heartbeat(), down_tx.clone(), ended));
            run(&mut peer, up, &down_tx).await;
            peer.end().await;
        }
        Err(status) => {
            tracing::info!(reason = status.message(), "Link of {} refused", P::NOUN);
            tell::<P>(&down_tx, Err(status)).await;
        }
    }
}

pub(super) async fn tell<P: Peer>(down_tx: &DownTx<P>, message: Result<P::Down, Status>) {
    // A peer that has gone hears nothing, and that is all there is to it.
    let _gone = down_tx.send(message).await;
}

async fn greet<P: Peer>(
    hub: &Hub,
    stranger: Stranger,
    up: &mut Streaming<P::Up>,
    down_tx: &DownTx<P>,
) -> Result<P::Proven, Status> {
    let nonce = challenge::draw_nonce();
    tell::<P>(down_tx, Ok(P::challenge(Challenge { nonce: nonce.to_vec() }))).await;
    let hello = up.message().await?.and_then(P::said).and_then(P::hello);
    let hello = hello.ok_or_else(|| Status::invalid_argument("a link begins with Hello"))?;
    clocks_agree(P::WHOSE_CLOCK, hello.time_s, hub.clock.now())
        .map_err(|off| Status::unauthenticated(off.to_string()))?;
    let proven = P::prove(hub, &hello, &nonce).await?;
    stranger.leave();
    Ok(proven)
}

enum Event<Said> {
    Said(Option<Said>),
    Lost(String),
    Ended,
}

async fn run<P: Peer>(peer: &mut P, mut up: Streaming<P::Up>, down_tx: &DownTx<P>) {
    let mut heard_at = Instant::now();
    loop {
        match next(peer, &mut up, heard_at).await {
            Event::Said(said) => {
                heard_at = Instant::now();
                let Some(said) = said else { continue };
                if let Err(problem) = peer.heard(said).await {
                    tracing::warn!(
                        peer = peer.name(),
                        problem,
                        "A message of {} was not taken",
                        P::NOUN
                    );
                }
            }
            Event::Lost(reason) => {
                tracing::info!(peer = peer.name(), reason, "Lost {}", P::NOUN);
                break;
            }
            Event::Ended => {
                // The queue may be what ended the link: a full one is not waited for.
                let _full = down_tx.try_send(Err(Status::aborted(P::ENDED)));
                break;
            }
        }
    }
}

async fn next<P: Peer>(peer: &P, up: &mut Streaming<P::Up>, heard_at: Instant) -> Event<P::Said> {
    tokio::select! {
        () = peer.place().ended.cancelled() => Event::Ended,
        said = time::timeout_at(heard_at + LINK_DEAD, up.next()) => match said {
            Ok(Some(Ok(said))) => Event::Said(P::said(said)),
            Ok(Some(Err(status))) => Event::Lost(status.message().to_owned()),
            Ok(None) => Event::Lost("it closed the link".to_owned()),
            Err(_) => Event::Lost("it was silent for too long".to_owned()),
        },
    }
}

/// A peer's clock that is too far off, and by how much.
#[derive(Debug, thiserror::Error)]
#[error(
    "the clock of the {whose} is {difference_s} s {direction} the hub's: set right the one that is wrong (NTP); it is \
     tried again by itself"
)]
pub(super) struct ClockOff {
    whose: &'static str,
    difference_s: u64,
    direction: &'static str,
}

/// Refuses a clock that is too far off: certificates and grants would be too old or too new by it.
pub(super) fn clocks_agree(
    whose: &'static str,
    time_s: i64,
    now: Timestamp,
) -> Result<(), ClockOff> {
    let difference = time_s.saturating_sub(now.as_second());
    if Duration::from_secs(difference.unsigned_abs()) <= CLOCK_SKEW {
        return Ok(());
    }
    let direction = if difference < 0 { "behind" } else { "ahead of" };
    Err(ClockOff { whose, difference_s: difference.unsigned_abs(), direction })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_within_a_minute_is_good_enough() {
        let now = Timestamp::from_second(1_000_000).expect("a time");
        assert!(clocks_agree("cluster", 1_000_060, now).is_ok());
        assert!(clocks_agree("cluster", 999_940, now).is_ok());
    }

    #[test]
    fn a_clock_that_is_off_is_told_by_how_much() {
        let now = Timestamp::from_second(1_000_000).expect("a time");
        let behind = clocks_agree("laptop", 996_400, now).expect_err("an hour").to_string();
        assert!(behind.contains("the laptop is 3600 s behind"), "{behind}");
        let ahead = clocks_agree("cluster", 1_003_600, now).expect_err("an hour").to_string();
        assert!(ahead.contains("3600 s ahead of"), "{ahead}");
    }
}
