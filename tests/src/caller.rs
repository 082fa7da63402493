//! A caller inside the cluster that opens a new connection every 10 ms, each with its moments and its outcome.
//!
//! A connection is begun at its time whatever became of those before it, so that a slow one never hides how long a
//! trouble lasted. The caller shares our clock: its outcomes can be held against the moment of an event.

use std::{
    net::SocketAddr,
    sync::mpsc::{Sender, channel},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow};
use fairlead_lab::{Host, Lab};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    calls::{Call, Calls},
    shop::answered_by,
};

const EVERY: Duration = Duration::from_millis(10);
/// As long as the shop waits for its own upstreams. Bounds how many connections are open at once, too: five hundred.
const TIMEOUT: Duration = Duration::from_secs(5);
const FIRST_WITHIN: Duration = Duration::from_secs(10);
const ANSWER_MAX_BYTES: u64 = 64 * 1024;

#[derive(Debug)]
pub struct Caller {
    stop: CancellationToken,
    thread: JoinHandle<anyhow::Result<Vec<Call>>>,
}

impl Caller {
    /// Begins to call an address of the shop from a host of the lab, and returns when the first call was answered.
    pub fn begins(lab: &Lab, from: Host, to: SocketAddr) -> anyhow::Result<Self> {
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let (first_tx, first_rx) = channel();
        let thread = lab.on(from, move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            Ok(runtime.block_on(call_until(stopped, to, first_tx)))
        })?;
        first_rx
            .recv_timeout(FIRST_WITHIN)
            .with_context(|| format!("nobody answers {from} at {to}"))?;
        Ok(Self { stop, thread })
    }

    /// Ends when the calls under way have ended.
    fn ends(self) -> anyhow::Result<Vec<Call>> {
        self.stop.cancel();
        self.thread.join().map_err(|_| anyhow!("the caller panicked"))?
    }
}

/// Ends callers together and returns every call in the order in which they were begun.
pub fn end_callers(callers: impl IntoIterator<Item = Caller>) -> anyhow::Result<Calls> {
    let callers: Vec<_> = callers.into_iter().collect();
    callers.iter().for_each(|caller| caller.stop.cancel());
    let mut calls = Vec::new();
    for caller in callers {
        calls.extend(caller.ends()?);
    }
    Ok(Calls::of(calls))
}

async fn call_until(stop: CancellationToken, to: SocketAddr, first_tx: Sender<()>) -> Vec<Call> {
    let mut tick = interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut first_tx = Some(first_tx);
    let (mut open, mut calls) = (JoinSet::new(), Vec::new());
    loop {
        tokio::select! {
            _ = tick.tick() => {
                open.spawn(call(to));
            }
            Some(Ok(call)) = open.join_next() => {
                calls.push(call);
            }
            () = stop.cancelled() => break,
        }
        let is_answered = || calls.iter().any(|call: &Call| call.answered_by.is_ok());
        if let Some(first_tx) = first_tx.take_if(|_| is_answered()) {
            // Whoever started the caller may have given up on it.
            first_tx.send(()).unwrap_or_default();
        }
    }
    calls.extend(open.join_all().await);
    calls
}

async fn call(to: SocketAddr) -> Call {
    let begun = Instant::now();
    let answered_by = match timeout(TIMEOUT, ask(to)).await {
        Ok(answered) => answered.map_err(|error| format!("{error:#}")),
        Err(_) => Err("no answer in time".to_owned()),
    };
    Call { begun, ended: Instant::now(), answered_by }
}

/// Asks once over a connection of its own and returns who answered.
async fn ask(to: SocketAddr) -> anyhow::Result<String> {
    let mut connection = TcpStream::connect(to).await?;
    connection.set_nodelay(true)?;
    connection.write_all(b"GET /who HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    connection.take(ANSWER_MAX_BYTES).read_to_string(&mut answer).await?;
    let at = answer.find('{').with_context(|| format!("no JSON in `{answer}`"))?;
    let end = answer.rfind('}').context("the answer is cut")?;
    let answer: Value = serde_json::from_str(&answer[at..=end])?;
    answered_by(&answer)
}

/// Asks once from a host of the lab and returns who answered.
pub(crate) fn ask_once(lab: &Lab, from: Host, to: SocketAddr) -> anyhow::Result<String> {
    let asked = lab.on(from, move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        anyhow::Ok(runtime.block_on(call(to)))
    })?;
    let call = asked.join().map_err(|_| anyhow!("the caller panicked"))??;
    call.answered_by.map_err(|error| anyhow!("{to} from {from}: {error}"))
}
