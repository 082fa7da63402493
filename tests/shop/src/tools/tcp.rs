//! `shop tcp`: one conversation with a line protocol whose server speaks first.

use std::{io::Write, time::Duration};

use anyhow::Context as _;
use tokio::{
    io::{AsyncWriteExt as _, BufReader},
    net::TcpStream,
    time::{sleep, timeout},
};

use crate::{args::TcpArgs, ledger::read_line};

const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Prints the greeting and the answer to each line, then ends its own side and waits for the other's end.
pub async fn converse(args: TcpArgs, out: &mut impl Write) -> anyhow::Result<()> {
    let connecting = timeout(ANSWER_TIMEOUT, TcpStream::connect(&args.target)).await;
    let mut tcp = connecting
        .context("no connection in time")?
        .with_context(|| format!("connecting to {}", args.target))?;
    let (from, mut to) = tcp.split();
    let mut from = BufReader::new(from);

    print_one(&mut from, out).await?.context("the peer said nothing")?;
    for line in &args.lines {
        sleep(Duration::from_millis(args.every_ms)).await;
        to.write_all(format!("{line}\n").as_bytes()).await?;
        print_one(&mut from, out).await?.context("the peer ended the conversation")?;
    }
    to.shutdown().await?;
    while print_one(&mut from, out).await?.is_some() {}
    Ok(())
}

async fn print_one(
    from: &mut (impl tokio::io::AsyncBufRead + Unpin),
    out: &mut impl Write,
) -> anyhow::Result<Option<()>> {
    let line = timeout(ANSWER_TIMEOUT, read_line(from)).await.context("no line in time")??;
    let Some(line) = line else { return Ok(None) };
    out.write_all(&line)?;
    Ok(Some(()))
}
