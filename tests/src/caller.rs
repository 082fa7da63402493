//! A caller inside the cluster that opens one new connection after the other, each with its moment and its outcome.
//!
//! It shares our clock, so a bench can hold its outcomes against the moment of a command.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow};
use fairlead_lab::{Host, Lab};
use serde_json::Value;

use crate::shop::answered_by;

const EVERY: Duration = Duration::from_millis(10);
const TIMEOUT: Duration = Duration::from_secs(2);
const ANSWER_MAX_BYTES: u64 = 64 * 1024;

/// One connection: when it was begun and who answered; `None` when nobody did.
#[derive(Debug, Clone)]
pub struct Call {
    pub begun: Instant,
    pub answered_by: Option<String>,
}

#[derive(Debug)]
pub struct Caller {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Call>>,
}

impl Caller {
    /// Begins to call an address of the shop from a host of the lab.
    pub fn begins(lab: &Lab, from: Host, to: SocketAddr) -> anyhow::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = lab.on(from, move || {
            let mut calls = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                let begun = Instant::now();
                calls.push(Call { begun, answered_by: ask(to).ok() });
                std::thread::sleep(EVERY.saturating_sub(begun.elapsed()));
            }
            calls
        })?;
        Ok(Self { stop, thread })
    }

    /// Ends and returns every call in the order in which they were begun.
    pub fn ends(self) -> anyhow::Result<Vec<Call>> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the caller panicked"))
    }
}

fn ask(to: SocketAddr) -> anyhow::Result<String> {
    let mut connection = TcpStream::connect_timeout(&to, TIMEOUT)?;
    connection.set_read_timeout(Some(TIMEOUT))?;
    connection.set_nodelay(true)?;
    connection.write_all(b"GET /who HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    connection.take(ANSWER_MAX_BYTES).read_to_string(&mut answer)?;
    let at = answer.find('{').context("no JSON in the answer")?;
    let end = answer.rfind('}').context("the answer is cut")?;
    let answer: Value = serde_json::from_str(&answer[at..=end])?;
    answered_by(&answer)
}
