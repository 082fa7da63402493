//! New connections: each is there when its first byte has been answered. The service closes first, so that no port of
//! this side is used up by waiting.

use std::{
    io::Read as _,
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use anyhow::ensure;
use serde::Serialize;

use crate::{Time, kind, spread::Spread};

#[derive(Debug, Serialize)]
pub(crate) struct Connected {
    per_s: f64,
    #[serde(flatten)]
    took: Spread,
}

pub(crate) fn connect(to: SocketAddr, threads: usize, time: Time) -> anyhow::Result<Connected> {
    let begun = Instant::now();
    let each = || connect_until(to, begun, time);
    let took = thread::scope(|scope| {
        let all: Vec<_> = (0..threads).map(|_| scope.spawn(each)).collect();
        let ends = all.into_iter().map(|one| one.join().expect("connecting does not panic"));
        ends.collect::<anyhow::Result<Vec<_>>>()
    })?
    .concat();
    Ok(Connected { per_s: per_s(took.len(), time.for_ms), took: Spread::of(took)? })
}

fn connect_until(to: SocketAddr, begun: Instant, time: Time) -> anyhow::Result<Vec<Duration>> {
    let mut took = Vec::new();
    while begun.elapsed() < time.warm_ms + time.for_ms {
        let opened = Instant::now();
        let mut tcp = kind::open(to, &[kind::ONCE, 1])?;
        let mut answer = [0; 2];
        tcp.read_exact(&mut answer[..1])?;
        let answered = opened.elapsed();
        ensure!(tcp.read(&mut answer)? == 0, "the service says more than it was asked");
        if begun.elapsed() >= time.warm_ms {
            took.push(answered);
        }
    }
    Ok(took)
}

#[expect(clippy::cast_precision_loss, reason = "counts are small")]
pub(crate) fn per_s(count: usize, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}
