//! Signs of life on a carrier: a PING when nothing was heard for a while, and the beats that somebody asks for.
//!
//! TCP's own keepalive is answered by a kernel whose process hangs; this is answered by the far end of the carrier.

use std::{future::poll_fn, time::Duration};

use fairlead_model::timers::{CARRIER_DEAD, CARRIER_PING};
use h2::{Ping, PingPong};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until},
};

/// Beats that may wait for one answer; whoever asks for more waits until there is room.
pub(crate) const BEATS_MAX: usize = 32;

/// Somebody's wish to know whether the other end is there.
#[derive(Debug)]
pub(crate) struct Beat {
    asked_at: Instant,
    answer: oneshot::Sender<Duration>,
}

impl Beat {
    pub(crate) fn new(answer: oneshot::Sender<Duration>) -> Self {
        Self { asked_at: Instant::now(), answer }
    }

    fn answered(self) {
        if self.answer.send(self.asked_at.elapsed()).is_err() {
            tracing::trace!("A beat was answered after its patience had run out");
        }
    }
}

enum Event {
    Answered,
    Asked(Beat),
    Due,
    Gone,
}

/// One PING in flight at a time, which is all that `h2` allows.
pub(crate) struct Keepalive {
    ping_pong: PingPong,
    in_flight_since: Option<Instant>,
    heard_at: Instant,
    waiting: Vec<Beat>,
}

/// What is left of [`CARRIER_DEAD`] for an answer once the idle time before the PING has passed.
const PATIENCE: Duration = CARRIER_DEAD.saturating_sub(CARRIER_PING);

impl Keepalive {
    pub(crate) fn new(ping_pong: PingPong) -> Self {
        Self { ping_pong, in_flight_since: None, heard_at: Instant::now(), waiting: Vec::new() }
    }

    /// Returns when the other end has not answered in time; until then, passes beats on.
    pub(crate) async fn until_silent(mut self, mut beats: mpsc::Receiver<Beat>) {
        loop {
            match self.next(&mut beats).await {
                Event::Answered => self.answered(),
                Event::Asked(beat) => self.waiting.push(beat),
                Event::Due if self.in_flight_since.is_some() => return,
                Event::Due => {}
                Event::Gone => break,
            }
            if self.in_flight_since.is_none() && (self.is_idle() || !self.waiting.is_empty()) {
                let Ok(()) = self.ping_pong.send_ping(Ping::opaque()) else { break };
                self.in_flight_since = Some(Instant::now());
            }
        }
        // The connection is at its end and will say so itself, with the reason.
        std::future::pending().await
    }

    async fn next(&mut self, beats: &mut mpsc::Receiver<Beat>) -> Event {
        let due = self.in_flight_since.map_or(self.heard_at + CARRIER_PING, |at| at + PATIENCE);
        let room = self.waiting.len() < BEATS_MAX;
        tokio::select! {
            pong = poll_fn(|cx| self.ping_pong.poll_pong(cx)), if self.in_flight_since.is_some() => {
                if pong.is_ok() { Event::Answered } else { Event::Gone }
            }
            Some(beat) = beats.recv(), if room => Event::Asked(beat),
            () = sleep_until(due) => Event::Due,
        }
    }

    fn is_idle(&self) -> bool {
        self.heard_at.elapsed() >= CARRIER_PING
    }

    fn answered(&mut self) {
        self.in_flight_since = None;
        self.heard_at = Instant::now();
        self.waiting.drain(..).for_each(Beat::answered);
    }
}
