//! `shop datagram`: asks the cluster's DNS, or whoever else answers UDP, by one datagram.

use std::{io::Write, time::Duration};

use anyhow::{Context as _, ensure};
use tokio::{net::UdpSocket, time::timeout};

use crate::args::DatagramArgs;

/// A datagram may get lost; asked again, somebody who is there answers.
const TIMES: usize = 5;
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
const ANSWER_MAX_BYTES: usize = 65_507;

/// Sends the datagram until an answer comes, and prints the answer as it was given: in hexadecimal digits.
pub async fn ask(args: DatagramArgs, out: &mut impl Write) -> anyhow::Result<()> {
    let datagram = bytes_of(&args.hex)?;
    let socket = UdpSocket::bind("0.0.0.0:0").await?;
    socket.connect(&args.target).await.with_context(|| format!("connecting to {}", args.target))?;
    let mut answer = vec![0; ANSWER_MAX_BYTES];
    for _ in 0..TIMES {
        socket.send(&datagram).await.context("sending")?;
        if let Ok(received) = timeout(ANSWER_TIMEOUT, socket.recv(&mut answer)).await {
            let length = received.context("nobody listens there")?;
            let hex: String = answer[..length].iter().map(|byte| format!("{byte:02x}")).collect();
            return Ok(writeln!(out, "{hex}")?);
        }
    }
    anyhow::bail!("{} does not answer", args.target)
}

fn bytes_of(hex: &str) -> anyhow::Result<Vec<u8>> {
    ensure!(hex.is_ascii() && hex.len().is_multiple_of(2), "two digits are one byte");
    let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).context("not hexadecimal");
    (0..hex.len()).step_by(2).map(byte).collect()
}
