//! Bytes, as many as pass, on several streams at once. Uploads are counted by the service, so that what is only on its
//! way does not count.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use nix::sys::{
    resource::{UsageWho, getrusage},
    time::{TimeVal, TimeValLike as _},
};
use serde::Serialize;

use crate::{
    Time,
    kind::{self, BULK_BYTES},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Way {
    Up,
    Down,
}

/// What one stream has moved.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Moved {
    /// From its first byte to its last.
    pub(crate) bytes: u64,
    /// Since counting began.
    pub(crate) counted_bytes: u64,
    pub(crate) counted_us: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct Bulk {
    /// All of them, warming up included: what the processor time was spent on.
    bytes: u64,
    /// Of all streams together.
    bytes_per_s: f64,
    /// Jain's index: 1 when all streams are equally fast, 1/n when one has everything.
    fairness: f64,
    /// What this process has used itself.
    cpu_s: f64,
}

pub(crate) fn move_bytes(
    to: SocketAddr,
    way: Way,
    streams: usize,
    time: Time,
) -> anyhow::Result<Bulk> {
    // Nobody begins before everybody is connected.
    let barrier = Barrier::new(streams);
    let one = || match way {
        Way::Up => up(to, &barrier, time),
        Way::Down => down(to, &barrier, time),
    };
    let moved = thread::scope(|scope| {
        let all: Vec<_> = (0..streams).map(|_| scope.spawn(one)).collect();
        let ends = all.into_iter().map(|one| one.join().expect("moving bytes does not panic"));
        ends.collect::<anyhow::Result<Vec<_>>>()
    })?;
    let rates: Vec<f64> = moved.iter().map(|one| one.bytes_per_s(time.for_ms)).collect();
    let bytes = moved.iter().map(|moved| moved.bytes).sum();
    let (bytes_per_s, fairness) = (rates.iter().sum(), fairness(&rates));
    Ok(Bulk { bytes, bytes_per_s, fairness, cpu_s: own_cpu_s()? })
}

fn up(to: SocketAddr, barrier: &Barrier, time: Time) -> anyhow::Result<Moved> {
    let mut tcp = begin(barrier, || kind::open(to, &[]))?;
    tcp.write_all(&[kind::UPLOAD])?;
    tcp.write_all(&u64::try_from(time.warm_ms.as_millis())?.to_be_bytes())?;
    let (bytes, begun) = (vec![kind::BYTE; BULK_BYTES], Instant::now());
    while begun.elapsed() < time.warm_ms + time.for_ms {
        tcp.write_all(&bytes)?;
    }
    tcp.write_all(&[kind::LAST])?;
    let mut counted = [0; 24];
    tcp.read_exact(&mut counted).context("the service does not say what came")?;
    Ok(Moved::from_bytes(counted))
}

fn down(to: SocketAddr, barrier: &Barrier, time: Time) -> anyhow::Result<Moved> {
    let mut tcp = begin(barrier, || kind::open(to, &[]))?;
    tcp.write_all(&[kind::DOWNLOAD])?;
    let (mut bytes, mut count) = (vec![0; BULK_BYTES], Count::begin(time.warm_ms));
    while count.begun.elapsed() < time.warm_ms + time.for_ms {
        match tcp.read(&mut bytes) {
            Ok(0) => anyhow::bail!("the download ended by itself"),
            Ok(read) => count.add(read),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error).context("a download broke"),
        }
    }
    Ok(count.moved())
}

#[expect(clippy::cast_precision_loss, reason = "a load runs for seconds")]
fn own_cpu_s() -> anyhow::Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let of = |time: TimeVal| time.num_microseconds() as f64 / 1e6;
    Ok(of(usage.user_time()) + of(usage.system_time()))
}

/// Connects and waits for the others, also when it failed: they would wait for ever.
fn begin(
    barrier: &Barrier,
    connect: impl FnOnce() -> anyhow::Result<TcpStream>,
) -> anyhow::Result<TcpStream> {
    let connected = connect();
    barrier.wait();
    connected
}

/// Counts what comes from a moment on.
pub(crate) struct Count {
    begun: Instant,
    warm: Duration,
    moved: Moved,
}

impl Count {
    pub(crate) fn begin(warm: Duration) -> Self {
        Self { begun: Instant::now(), warm, moved: Moved::default() }
    }

    pub(crate) fn add(&mut self, bytes: usize) {
        let bytes = bytes as u64;
        self.moved.bytes += bytes;
        if self.begun.elapsed() >= self.warm {
            self.moved.counted_bytes += bytes;
        }
    }

    pub(crate) fn moved(&self) -> Moved {
        let counted = self.begun.elapsed().saturating_sub(self.warm);
        Moved { counted_us: u64::try_from(counted.as_micros()).unwrap_or(u64::MAX), ..self.moved }
    }
}

impl Moved {
    pub(crate) fn to_bytes(self) -> [u8; 24] {
        let mut bytes = [0; 24];
        for (at, number) in [self.bytes, self.counted_bytes, self.counted_us].iter().enumerate() {
            bytes[at * 8..][..8].copy_from_slice(&number.to_be_bytes());
        }
        bytes
    }

    fn from_bytes(bytes: [u8; 24]) -> Self {
        let number = |at: usize| {
            let mut number = [0; 8];
            number.copy_from_slice(&bytes[at * 8..][..8]);
            u64::from_be_bytes(number)
        };
        Self { bytes: number(0), counted_bytes: number(1), counted_us: number(2) }
    }

    /// A stream that the service began late with, because others had its processor, has not been the faster for it: it
    /// had all the time that it was given.
    #[expect(clippy::cast_precision_loss, reason = "nothing of it is larger than 2^52")]
    fn bytes_per_s(&self, given: Duration) -> f64 {
        self.counted_bytes as f64 / (self.counted_us as f64 / 1e6).max(given.as_secs_f64())
    }
}

#[expect(clippy::cast_precision_loss, reason = "there are few streams")]
fn fairness(rates: &[f64]) -> f64 {
    let sum: f64 = rates.iter().sum();
    let squares: f64 = rates.iter().map(|rate| rate * rate).sum();
    if squares == 0.0 { 0.0 } else { sum * sum / (rates.len() as f64 * squares) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fairness_is_one_for_equals_and_a_share_for_one_that_has_all() {
        assert!((fairness(&[3.0; 5]) - 1.0).abs() < 1e-9);
        assert!((fairness(&[3.0, 0.0, 0.0, 0.0]) - 0.25).abs() < 1e-9);
        assert!(fairness(&[0.0, 0.0]).abs() < 1e-9);
    }

    #[test]
    fn what_was_moved_is_read_as_it_was_written() {
        let moved = Moved { bytes: 7, counted_bytes: 3_000_000, counted_us: 1_500_000 };
        let read = Moved::from_bytes(moved.to_bytes());
        assert_eq!((read.bytes, read.counted_bytes, read.counted_us), (7, 3_000_000, 1_500_000));
        assert!((read.bytes_per_s(Duration::from_secs(1)) - 2e6).abs() < 1.0);
        assert!((read.bytes_per_s(Duration::from_secs(3)) - 1e6).abs() < 1.0, "it began late");
    }
}
