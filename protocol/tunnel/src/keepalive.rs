//! Signs of life on a carrier: a PING when nothing was heard for a while, and the beats that somebody asks for. A first one
//! measures the round trip, where that is not known.
//!
//! TCP's own keepalive is answered by a kernel whose process hangs; this is answered by the far end of the carrier. Any
//! byte that arrives counts as an answer: behind bulk on a slow link a PING may take seconds, and a laptop that is busy
//! must not be taken for one that is gone.

use std::{future::poll_fn, sync::Arc, time::Duration};

use fairlead_model::timers::{CARRIER_DEAD, CARRIER_PING};
use h2::{Ping, PingPong};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep, sleep_until},
};

use crate::heard::Heard;

/// Beats that may wait for one answer; whoever asks for more waits until there is room.
pub(crate) const BEATS_MAX: usize = 32;
/// While beats wait, arriving bytes are looked for this often.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// What is left of [`CARRIER_DEAD`] for an answer once the idle time before the PING has passed.
const PATIENCE: Duration = CARRIER_DEAD.saturating_sub(CARRIER_PING);

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
    Ponged,
    Asked(Beat),
    Look,
    Due,
    Gone,
}

/// One PING in flight at a time, which is all that `h2` allows.
pub(crate) struct Keepalive {
    ping_pong: PingPong,
    heard: Arc<Heard>,
    in_flight_since: Option<Instant>,
    /// How long the other end may be silent while a PING is in flight.
    patience: Duration,
    waiting: Vec<Beat>,
}

impl Keepalive {
    pub(crate) const fn new(ping_pong: PingPong, heard: Arc<Heard>) -> Self {
        Self { ping_pong, heard, in_flight_since: None, patience: PATIENCE, waiting: Vec::new() }
    }

    /// Returns when the other end has been silent for too long; until then, passes beats on.
    pub(crate) async fn until_silent(mut self, mut beats: mpsc::Receiver<Beat>) {
        if !self.heard.window().knows_the_round_trip() {
            self.patience = CARRIER_DEAD;
            self.ping();
        }
        loop {
            match self.next(&mut beats).await {
                Event::Ponged => {
                    let asked_at = self.in_flight_since.take().unwrap_or_else(Instant::now);
                    self.patience = PATIENCE;
                    self.heard.window().note_round_trip(asked_at.elapsed());
                    self.answer_those_before(asked_at);
                }
                Event::Asked(beat) => self.waiting.push(beat),
                Event::Due if self.is_silent() => return,
                Event::Look | Event::Due => {}
                Event::Gone => break,
            }
            self.answer_those_before(self.heard.last());
            let is_due = self.is_idle() || !self.waiting.is_empty();
            if self.in_flight_since.is_none() && is_due && !self.ping() {
                break;
            }
        }
        // The connection is at its end and will say so itself, with the reason.
        std::future::pending().await
    }

    /// Says whether the connection is there to take it.
    fn ping(&mut self) -> bool {
        let is_sent = self.ping_pong.send_ping(Ping::opaque()).is_ok();
        if is_sent {
            self.in_flight_since = Some(Instant::now());
        }
        is_sent
    }

    async fn next(&mut self, beats: &mut mpsc::Receiver<Beat>) -> Event {
        let due = match self.in_flight_since {
            Some(asked_at) => asked_at.max(self.heard.last()) + self.patience,
            None => self.heard.last() + CARRIER_PING,
        };
        let room = self.waiting.len() < BEATS_MAX;
        tokio::select! {
            pong = poll_fn(|cx| self.ping_pong.poll_pong(cx)), if self.in_flight_since.is_some() => {
                if pong.is_ok() { Event::Ponged } else { Event::Gone }
            }
            Some(beat) = beats.recv(), if room => Event::Asked(beat),
            () = sleep(LOOK_EVERY), if !self.waiting.is_empty() => Event::Look,
            () = sleep_until(due) => Event::Due,
        }
    }

    fn is_idle(&self) -> bool {
        self.heard.last().elapsed() >= CARRIER_PING
    }

    fn is_silent(&self) -> bool {
        self.in_flight_since
            .is_some_and(|asked_at| asked_at.max(self.heard.last()).elapsed() >= self.patience)
    }

    fn answer_those_before(&mut self, alive_at: Instant) {
        self.waiting.extract_if(.., |beat| beat.asked_at <= alive_at).for_each(Beat::answered);
    }
}
