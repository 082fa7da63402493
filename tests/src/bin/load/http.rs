//! Requests of HTTP/1.1, as many as are answered: on connections that stay, or each on one of its own.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    thread,
    time::Instant,
};

use anyhow::{Context as _, ensure};
use serde::Serialize;

use crate::{Time, connect::per_s, kind, serve::ANSWER};

const KEEP: &[u8] = b"GET / HTTP/1.1\r\nHost: service\r\n\r\n";
const CLOSE: &[u8] = b"GET / HTTP/1.1\r\nHost: service\r\nConnection: close\r\n\r\n";

#[derive(Debug, Serialize)]
pub(crate) struct Answered {
    per_s: f64,
}

pub(crate) fn ask(
    to: SocketAddr,
    threads: usize,
    close: bool,
    time: Time,
) -> anyhow::Result<Answered> {
    let begun = Instant::now();
    let each = || if close { each_alone(to, begun, time) } else { all_on_one(to, begun, time) };
    let counts = thread::scope(|scope| {
        let all: Vec<_> = (0..threads).map(|_| scope.spawn(each)).collect();
        let ends = all.into_iter().map(|one| one.join().expect("asking does not panic"));
        ends.collect::<anyhow::Result<Vec<usize>>>()
    })?;
    Ok(Answered { per_s: per_s(counts.iter().sum(), time.for_ms) })
}

fn all_on_one(to: SocketAddr, begun: Instant, time: Time) -> anyhow::Result<usize> {
    let mut tcp = kind::open(to, KEEP)?;
    let mut count = 0;
    read_answer(&mut tcp)?;
    while begun.elapsed() < time.warm_ms + time.for_ms {
        tcp.write_all(KEEP)?;
        read_answer(&mut tcp)?;
        count += usize::from(begun.elapsed() >= time.warm_ms);
    }
    Ok(count)
}

fn each_alone(to: SocketAddr, begun: Instant, time: Time) -> anyhow::Result<usize> {
    let mut count = 0;
    while begun.elapsed() < time.warm_ms + time.for_ms {
        let mut tcp = kind::open(to, CLOSE)?;
        read_answer(&mut tcp)?;
        ensure!(tcp.read(&mut [0])? == 0, "the service did not close");
        count += usize::from(begun.elapsed() >= time.warm_ms);
    }
    Ok(count)
}

fn read_answer(tcp: &mut TcpStream) -> anyhow::Result<()> {
    let mut answer = [0; ANSWER.len()];
    tcp.read_exact(&mut answer).context("no whole answer")?;
    ensure!(answer == *ANSWER, "another answer than the service's");
    Ok(())
}
