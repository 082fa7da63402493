//! The ledger: plain TCP where the server speaks first.
//!
//! It greets with one line of JSON that says who answers and then sends every line back. A protocol
//! like this (MySQL, SMTP, SSH) is what a proxy that waits for the client's first byte would break.

use std::{io, net::SocketAddr, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    answer::{Answer, AnsweredBy},
    serve::{DRAIN, Door},
};

/// A longer line ends the conversation.
const LINE_MAX_BYTES: u64 = 64 * 1024;
/// A conversation that says nothing for this long is over.
const IDLE: Duration = Duration::from_secs(600);

/// The first line of every conversation.
#[derive(Debug, Serialize, Deserialize)]
pub struct Greeting {
    pub answered_by: AnsweredBy,
}

/// Serves the ledger until `stop`, then drains.
pub async fn serve_ledger(listener: TcpListener, who: AnsweredBy, stop: CancellationToken) {
    let greeting = one_line(&Greeting { answered_by: who });
    let open = TaskTracker::new();
    let mut door = Door::new(listener, stop);
    while let Some((tcp, place)) = door.next().await {
        let greeting = greeting.clone();
        open.spawn(async move {
            // A peer that goes away in the middle is its own business.
            converse(tcp, &greeting).await.ok();
            drop(place);
        });
    }
    drop(door);
    open.close();
    timeout(DRAIN, open.wait()).await.ok();
}

async fn converse(tcp: TcpStream, greeting: &[u8]) -> io::Result<()> {
    let (from, mut to) = tcp.into_split();
    let mut from = BufReader::new(from);
    to.write_all(greeting).await?;
    while let Some(line) = read_line(&mut from).await? {
        to.write_all(&line).await?;
    }
    to.shutdown().await
}

/// Enters one line and returns who kept it, and the connection it went over.
pub async fn enter(address: &str, line: &str) -> io::Result<(Answer, SocketAddr)> {
    let mut tcp = TcpStream::connect(address).await?;
    let over = tcp.local_addr()?;
    let (from, mut to) = tcp.split();
    let mut from = BufReader::new(from);
    let greeting = read_greeting(&mut from).await?;

    let entered = format!("{line}\n").into_bytes();
    to.write_all(&entered).await?;
    let kept = read_line(&mut from).await?.unwrap_or_default();
    if kept != entered {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the ledger kept another line"));
    }
    to.shutdown().await?;
    let answer = Answer {
        answered_by: greeting.answered_by,
        path: line.to_owned(),
        baggage: None,
        calls: Vec::new(),
    };
    Ok((answer, over))
}

/// Reads the line that the ledger speaks first.
pub async fn read_greeting(from: &mut (impl AsyncBufReadExt + Unpin)) -> io::Result<Greeting> {
    let line = read_line(from).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok(serde_json::from_slice(&line)?)
}

/// Reads one line with its end; `None` when the peer has said everything.
pub async fn read_line(from: &mut (impl AsyncBufReadExt + Unpin)) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let mut from = from.take(LINE_MAX_BYTES);
    let length = timeout(IDLE, from.read_until(b'\n', &mut line)).await??;
    match (length, line.ends_with(b"\n")) {
        (0, _) => Ok(None),
        (_, false) if line.len() as u64 == LINE_MAX_BYTES => {
            Err(io::Error::new(io::ErrorKind::InvalidData, "the line is too long"))
        }
        _ => Ok(Some(line)),
    }
}

fn one_line(greeting: &Greeting) -> Vec<u8> {
    let mut line = serde_json::to_vec(greeting).expect("a greeting is plain data");
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_read_to_their_end_and_a_last_one_may_lack_it() {
        let mut text: &[u8] = b"one\ntwo";
        assert_eq!(read_line(&mut text).await.expect("in time"), Some(b"one\n".to_vec()));
        assert_eq!(read_line(&mut text).await.expect("in time"), Some(b"two".to_vec()));
        assert_eq!(read_line(&mut text).await.expect("in time"), None);
    }

    #[tokio::test]
    async fn a_line_without_end_is_refused() {
        let endless = vec![b'a'; LINE_MAX_BYTES as usize + 10];
        let error = read_line(&mut endless.as_slice()).await.expect_err("too long");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
