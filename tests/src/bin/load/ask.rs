//! The latency of 1 KB asked and answered on a connection that stands.

use std::{
    io::{Read as _, Write as _},
    net::SocketAddr,
    time::Instant,
};

use crate::{
    Time,
    kind::{self, ASKED_BYTES},
    spread::Spread,
};

pub(crate) fn ask(to: SocketAddr, time: Time) -> anyhow::Result<Spread> {
    let mut tcp = kind::open(to, &[kind::ECHO])?;
    let mut said = [7; ASKED_BYTES];
    let mut took = Vec::new();
    let begun = Instant::now();
    while begun.elapsed() < time.warm_ms + time.for_ms {
        let asked = Instant::now();
        tcp.write_all(&said)?;
        tcp.read_exact(&mut said)?;
        if begun.elapsed() >= time.warm_ms {
            took.push(asked.elapsed());
        }
    }
    Spread::of(took)
}
