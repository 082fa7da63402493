//! What those do from whom nothing is taken: each downloads, asks and connects at a steady pace, so that nobody is idle
//! and the machine is not full.

use std::{
    io::Read as _,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{JoinHandle, sleep},
    time::{Duration, Instant},
};

use fairlead_lab::{Host, Lab};
use fairlead_tests::kind;

use super::{
    flow::{echo, open_as},
    staff::Ready,
};
use crate::stage::{ms, tell};

/// 1 MB a second.
const PIECE_BYTES: usize = 64 << 10;
const READ_EVERY: Duration = Duration::from_millis(64);
const ASK_EVERY: Duration = Duration::from_millis(20);
const CONNECT_EVERY: Duration = Duration::from_millis(100);

/// Works until it is told to end, or fails; notes how long each answer took, in milliseconds.
type Work = fn(u32, SocketAddr, &AtomicBool, &mut Vec<f64>) -> anyhow::Result<()>;

pub(super) struct Traffic {
    ended: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Seen>>,
}

#[derive(Default)]
pub(super) struct Seen {
    pub(super) asked_ms: Vec<f64>,
    pub(super) failed: u32,
}

impl Traffic {
    pub(super) fn begins(lab: &Lab, people: &[Ready]) -> anyhow::Result<Self> {
        let ended = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        for &Ready { uid, address, .. } in people {
            for (what, work) in
                [("a download", download as Work), ("asking", ask), ("connecting", connect)]
            {
                let ended = Arc::clone(&ended);
                threads.push(lab.on(Host::Laptop, move || {
                    again_and_again(what, &ended, |asked_ms| work(uid, address, &ended, asked_ms))
                })?);
            }
        }
        Ok(Self { ended, threads })
    }

    pub(super) fn ends(self) -> Seen {
        self.ended.store(true, Ordering::Relaxed);
        let mut all = Seen::default();
        for thread in self.threads {
            let seen = thread.join().expect("working does not panic");
            all.asked_ms.extend(seen.asked_ms);
            all.failed += seen.failed;
        }
        all
    }
}

/// Begins anew after each failure: the others are to have the same neighbours until the end.
fn again_and_again(
    what: &str,
    ended: &AtomicBool,
    mut work: impl FnMut(&mut Vec<f64>) -> anyhow::Result<()>,
) -> Seen {
    let mut seen = Seen::default();
    while !ended.load(Ordering::Relaxed) {
        if let Err(error) = work(&mut seen.asked_ms) {
            tell(&format!("{what} failed: {error:#}"));
            seen.failed += 1;
            sleep(CONNECT_EVERY);
        }
    }
    seen
}

fn download(uid: u32, to: SocketAddr, ended: &AtomicBool, _: &mut Vec<f64>) -> anyhow::Result<()> {
    let (mut tcp, mut piece) = (open_as(uid, to, kind::DOWNLOAD)?, vec![0; PIECE_BYTES]);
    at_pace(READ_EVERY, ended, || Ok(tcp.read_exact(&mut piece)?))
}

fn ask(
    uid: u32,
    to: SocketAddr,
    ended: &AtomicBool,
    asked_ms: &mut Vec<f64>,
) -> anyhow::Result<()> {
    let mut tcp = open_as(uid, to, kind::ECHO)?;
    at_pace(ASK_EVERY, ended, || {
        let asked = Instant::now();
        echo(&mut tcp)?;
        asked_ms.push(ms(asked.elapsed()));
        Ok(())
    })
}

fn connect(uid: u32, to: SocketAddr, ended: &AtomicBool, _: &mut Vec<f64>) -> anyhow::Result<()> {
    at_pace(CONNECT_EVERY, ended, || echo(&mut open_as(uid, to, kind::ECHO)?))
}

fn at_pace(
    every: Duration,
    ended: &AtomicBool,
    mut act: impl FnMut() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    while !ended.load(Ordering::Relaxed) {
        let next = Instant::now() + every;
        act()?;
        sleep(next.saturating_duration_since(Instant::now()));
    }
    Ok(())
}
