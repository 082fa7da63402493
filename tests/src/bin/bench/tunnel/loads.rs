//! Puts a load on a path and reads what the load found. Each load is a process of its own on the laptop, run as ada, and
//! none outlives its patience.

use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::Context as _;
use fairlead_tests::{Line, Running, begin};
use serde::{Deserialize, de::DeserializeOwned};

/// Beyond the time that a load was told to take.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Up,
    Down,
}

/// For how long a load is on, and from when on it counts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Time {
    pub(crate) warm_ms: u64,
    pub(crate) for_ms: u64,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Bulk {
    pub(crate) bytes: f64,
    pub(crate) bytes_per_s: f64,
    pub(crate) fairness: f64,
    pub(crate) cpu_s: f64,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Asked {
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Connected {
    pub(crate) per_s: f64,
    pub(crate) p50_us: f64,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Answered {
    pub(crate) per_s: f64,
}

/// Streams that are open until this is dropped.
#[derive(Debug)]
pub(crate) struct Open(Child);

impl Drop for Open {
    fn drop(&mut self) {
        let ended = self.0.kill().and_then(|()| self.0.wait());
        ended.map(drop).unwrap_or_default();
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Loads<'l>(&'l Line);

impl<'l> Loads<'l> {
    pub(crate) const fn of(line: &'l Line) -> Self {
        Self(line)
    }

    pub(crate) fn bulk(
        self,
        to: SocketAddr,
        way: Way,
        streams: usize,
        time: Time,
    ) -> anyhow::Result<Bulk> {
        found(self.begin_bulk(to, way, streams, time)?, time)
    }

    /// Begins to move bytes while something else is measured.
    pub(crate) fn begin_bulk(
        self,
        to: SocketAddr,
        way: Way,
        streams: usize,
        time: Time,
    ) -> anyhow::Result<Running> {
        let way = if way == Way::Up { "up" } else { "down" };
        self.begin(&["bulk", &to.to_string(), way, "--streams", &streams.to_string()], time)
    }

    pub(crate) fn ask(self, to: SocketAddr, time: Time) -> anyhow::Result<Asked> {
        found(self.begin_ask(to, time)?, time)
    }

    /// Opens a connection and asks over it while something else begins.
    pub(crate) fn begin_ask(self, to: SocketAddr, time: Time) -> anyhow::Result<Running> {
        self.begin(&["ask", &to.to_string()], time)
    }

    pub(crate) fn connect(
        self,
        to: SocketAddr,
        threads: usize,
        time: Time,
    ) -> anyhow::Result<Connected> {
        let threads = threads.to_string();
        found(self.begin(&["connect", &to.to_string(), "--threads", &threads], time)?, time)
    }

    pub(crate) fn http(
        self,
        to: SocketAddr,
        threads: usize,
        close: bool,
        time: Time,
    ) -> anyhow::Result<Answered> {
        let (to, threads) = (to.to_string(), threads.to_string());
        let words = ["http", &to, "--threads", &threads, "--close"];
        found(self.begin(&words[..if close { 5 } else { 4 }], time)?, time)
    }

    pub(crate) fn idle(self, to: SocketAddr, streams: usize) -> anyhow::Result<Open> {
        self.open("idle", to, streams)
    }

    pub(crate) fn stalled(self, to: SocketAddr, streams: usize) -> anyhow::Result<Open> {
        self.open("stall", to, streams)
    }

    fn begin(self, words: &[&str], time: Time) -> anyhow::Result<Running> {
        let mut load = self.0.load();
        load.args(words);
        load.args(["--warm-ms", &time.warm_ms.to_string(), "--for-ms", &time.for_ms.to_string()]);
        begin(load)
    }

    /// Returns when all of the streams are open.
    fn open(self, verb: &str, to: SocketAddr, streams: usize) -> anyhow::Result<Open> {
        let mut load: Command = self.0.load();
        load.args([verb, &to.to_string(), &streams.to_string()]);
        let mut child =
            load.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn()?;
        let stdout = child.stdout.take().context("piped above")?;
        let open = Open(child);
        let mut said = String::new();
        BufReader::new(stdout).read_line(&mut said)?;
        anyhow::ensure!(
            said.trim() == streams.to_string(),
            "not all of {streams} streams are open"
        );
        Ok(open)
    }
}

pub(crate) fn found<T: DeserializeOwned>(load: Running, time: Time) -> anyhow::Result<T> {
    let patience = Duration::from_millis(time.warm_ms + time.for_ms) + PATIENCE;
    let said = load.ends_within(patience)?.ok()?;
    serde_json::from_str(&said.stdout).with_context(|| said.to_string())
}
