//! A long cable between the laptop and everything else: 50 ms there and back, 200 Mbit/s, and 1 % loss when asked for.
//!
//! It is made of two TAP devices, one on each host, and two threads per direction that carry frames between them: not
//! every kernel has netem. The way to each other's address leads through it from then on, with us and without us.

mod shaper;
mod tap;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle, sleep},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use fairlead_lab::{Host, Lab};
use fairlead_tests::say;

use shaper::{Link, Shaper};
use tap::Tap;

const NAME: &str = "wan0";
const LINK: Link =
    Link { bytes_per_s: 25e6, delay: Duration::from_millis(25), queue: Duration::from_millis(50) };
/// An Ethernet frame with what may be added to it.
const FRAME_BYTES: usize = 1600;
/// More than the queue and the delay hold of full frames.
const UNDER_WAY: usize = 8192;

type Frame = (Instant, Vec<u8>);

#[derive(Debug)]
pub(crate) struct Wan {
    lost_per_mille: Arc<AtomicU64>,
    ended: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Wan {
    /// Lays the cable and leads both hosts' way to each other through it.
    pub(crate) fn between(lab: &Lab, near: Host, far: Host) -> anyhow::Result<Self> {
        let make = |host| {
            let made = lab.on(host, || Tap::make(NAME))?;
            made.join().expect("making a device does not panic")
        };
        let (near_end, far_end) = (make(near)?, make(far)?);
        for (host, other) in [(near, far), (far, near)] {
            lead_through(lab, host, other)?;
        }
        let mut wan =
            Self { lost_per_mille: Arc::default(), ended: Arc::default(), threads: Vec::new() };
        wan.carry(near_end.again()?, far_end.again()?, 1);
        wan.carry(far_end, near_end, 2);
        Ok(wan)
    }

    /// Loses so many of a thousand frames, in both directions.
    pub(crate) fn loses(&self, per_mille: u64) {
        self.lost_per_mille.store(per_mille, Ordering::Relaxed);
    }

    fn carry(&mut self, from: Tap, to: Tap, seed: u64) {
        let (frame_tx, frame_rx) = sync_channel(UNDER_WAY);
        let (lost, ended) = (Arc::clone(&self.lost_per_mille), Arc::clone(&self.ended));
        self.threads.push(thread::spawn(move || take_in(&from, &frame_tx, &lost, &ended, seed)));
        self.threads.push(thread::spawn(move || hand_out(&to, &frame_rx)));
    }
}

impl Drop for Wan {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // It carries frames; what it said in a panic has been said.
            drop(thread.join());
        }
    }
}

/// Reads frames until the cable is taken away, or its host is.
fn take_in(
    from: &Tap,
    frame_tx: &SyncSender<Frame>,
    lost_per_mille: &AtomicU64,
    ended: &AtomicBool,
    seed: u64,
) {
    let mut shaper = Shaper::new(LINK, Instant::now(), seed);
    let mut frame = [0; FRAME_BYTES];
    while !ended.load(Ordering::Relaxed) {
        match from.read(&mut frame) {
            Ok(Some(bytes)) => {
                let lost = lost_per_mille.load(Ordering::Relaxed);
                let arrival = shaper.arrival(Instant::now(), bytes, lost);
                if let Some(arrival) = arrival
                    && frame_tx.send((arrival, frame[..bytes].to_vec())).is_err()
                {
                    return;
                }
            }
            Ok(None) => {}
            Err(_) => return,
        }
    }
}

fn hand_out(to: &Tap, frame_rx: &Receiver<Frame>) {
    for (arrival, frame) in frame_rx {
        sleep(arrival.saturating_duration_since(Instant::now()));
        to.write(&frame);
    }
}

fn lead_through(lab: &Lab, host: Host, other: Host) -> anyhow::Result<()> {
    let (own, to) = (host.address().to_string(), format!("{}/32", other.address()));
    let run = |words: &[&str]| {
        let mut ip = lab.exec(host, "ip");
        ip.args(words);
        say(ip)?.ok().map(drop).with_context(|| format!("the cable's end at {host}"))
    };
    run(&["link", "set", NAME, "up"])?;
    run(&["route", "add", &to, "dev", NAME, "src", &own])
}
