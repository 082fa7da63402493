//! Streams that are only there: idle ones, and downloads whose reader has stopped.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
};

use crate::kind::{self, ASKED_BYTES};

/// Opens streams of which each has exchanged 1 KB.
pub(crate) fn idle(to: SocketAddr, streams: usize) -> anyhow::Result<Vec<TcpStream>> {
    let mut said = [7; ASKED_BYTES];
    let open = |_| {
        let mut tcp = kind::open(to, &[kind::ECHO])?;
        tcp.write_all(&said)?;
        tcp.read_exact(&mut said)?;
        Ok(tcp)
    };
    (0..streams).map(open).collect()
}

/// Opens downloads and reads one byte of each: from then on nobody reads.
pub(crate) fn stalled(to: SocketAddr, streams: usize) -> anyhow::Result<Vec<TcpStream>> {
    let open = |_| {
        let mut tcp = kind::open(to, &[kind::DOWNLOAD])?;
        tcp.read_exact(&mut [0])?;
        Ok(tcp)
    };
    (0..streams).map(open).collect()
}

/// Says that they are there and keeps them until standard input ends.
pub(crate) fn hold(streams: &[TcpStream]) -> anyhow::Result<()> {
    let mut stdout = io::stdout();
    writeln!(stdout, "{}", streams.len())?;
    stdout.flush()?;
    io::copy(&mut io::stdin(), &mut io::sink())?;
    Ok(())
}
