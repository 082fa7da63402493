//! A long cable between two hosts, with the delay, the rate and the loss that it is given.
//!
//! It is made of two TAP devices, one on each host, and two threads per direction that carry frames between them: not
//! every kernel has netem. The way to each other's address leads through it while it is there, also for connections that
//! were open before. From a node it does not: what its pods say leaves under the node's address, and the kernel gives up
//! such a connection whose way out changes.

mod shaper;
mod tap;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle, sleep},
    time::Instant,
};

use anyhow::Context as _;
use fairlead_lab::{Host, Lab};

pub use self::shaper::Cable;
use self::{shaper::Shaper, tap::Tap};
use crate::command::say;

/// An Ethernet frame with what may be added to it.
const FRAME_BYTES: usize = 1600;
/// More than the queue and the delay hold of full frames.
const UNDER_WAY: usize = 8192;

type Frame = (Instant, Vec<u8>);

/// The cable; dropping it takes it away.
#[derive(Debug)]
pub struct Wan {
    ends: [Host; 2],
    number: u32,
    cable: Cable,
    lost_per_mille: Arc<AtomicU64>,
    ended: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Wan {
    /// Lays the cable and leads both hosts' way to each other through it.
    pub fn between(lab: &Lab, near: Host, far: Host, cable: Cable) -> anyhow::Result<Self> {
        // Several may be there at a time, and lead to the same host.
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let make = |host| {
            let made = lab.on(host, move || Tap::make(&device(number)))?;
            made.join().expect("making a device does not panic")
        };
        let (near_end, far_end) = (make(near)?, make(far)?);
        let ends = [near, far];
        for host in ends {
            ip(lab, host, &["link", "set", &device(number), "up"])?;
        }
        for route in routes(ends, number) {
            route.set(lab, &[])?;
        }
        let (lost_per_mille, ended) = (Arc::default(), Arc::default());
        let mut wan = Self { ends, number, cable, lost_per_mille, ended, threads: Vec::new() };
        wan.carry(near_end.again()?, far_end.again()?, 1);
        wan.carry(far_end, near_end, 2);
        Ok(wan)
    }

    /// Loses so many of a thousand frames, in both directions.
    pub fn loses(&self, per_mille: u64) {
        self.lost_per_mille.store(per_mille, Ordering::Relaxed);
    }

    /// Has every connection between the two hosts that begins from now on use one congestion control, whatever its
    /// program asks for.
    pub fn imposes(&self, lab: &Lab, congestion_control: &str) -> anyhow::Result<()> {
        routes(self.ends, self.number)
            .try_for_each(|route| route.set(lab, &["congctl", "lock", congestion_control]))
    }

    fn carry(&mut self, from: Tap, to: Tap, seed: u64) {
        let (frame_tx, frame_rx) = sync_channel(UNDER_WAY);
        let (lost, ended) = (Arc::clone(&self.lost_per_mille), Arc::clone(&self.ended));
        let shaper = Shaper::new(self.cable, Instant::now(), seed);
        self.threads.push(thread::spawn(move || take_in(&from, &frame_tx, &lost, &ended, shaper)));
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
    mut shaper: Shaper,
) {
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

fn device(number: u32) -> String {
    format!("wan{number}")
}

fn routes([near, far]: [Host; 2], number: u32) -> impl Iterator<Item = Route> {
    let both = [(near, far), (far, near)].into_iter();
    let has_no_pods = |(host, _): &(Host, Host)| host.pod_range().is_none();
    both.filter(has_no_pods).map(move |(host, other)| Route::new(host, other, number))
}

/// A host's way to another through its end of a cable.
struct Route {
    host: Host,
    own: String,
    to: String,
    device: String,
    metric: String,
}

impl Route {
    fn new(host: Host, other: Host, number: u32) -> Self {
        let (own, to) = (host.address().to_string(), other.address().to_string());
        Self { host, own, to, device: device(number), metric: number.to_string() }
    }

    fn set(&self, lab: &Lab, options: &[&str]) -> anyhow::Result<()> {
        let Self { host, own, to, device, metric } = self;
        let route = ["route", "replace", to, "dev", device, "src", own, "metric", metric];
        ip(lab, *host, &[&route, options].concat())
    }
}

fn ip(lab: &Lab, host: Host, words: &[&str]) -> anyhow::Result<()> {
    let mut ip = lab.exec(host, "ip");
    ip.args(words);
    say(ip)?.ok().map(drop).with_context(|| format!("the cable's end at {host}"))
}
