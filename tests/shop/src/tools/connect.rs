//! `shop connect`: new connections at a steady rate, each one counted.
//!
//! A connection is begun at its time whatever became of those before it, so that a slow or failing
//! one never hides how long the trouble lasted.

use std::{
    io::{self, Write},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http::{Request, header::HOST};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use tokio::{
    io::BufReader,
    net::{TcpStream, lookup_host},
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    answer::Answer,
    args::ConnectArgs,
    ledger::read_greeting,
    tools::tally::{Attempt, Tally},
};

/// More connections than this would measure the machine and not the Service.
const ATTEMPTS_MAX: u64 = 1_000_000;
const ANSWER_MAX_BYTES: usize = 1 << 20;

/// What every attempt needs to know.
#[derive(Debug)]
struct Target {
    address: SocketAddr,
    /// `None` reads a greeting instead of asking over HTTP.
    path: Option<String>,
    host: String,
    timeout: Duration,
}

/// Opens connections until the time is over or `stop`, and prints what they met.
pub async fn connect(
    args: ConnectArgs,
    stop: CancellationToken,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    ensure!(args.every_ms > 0, "--every-ms must be at least 1");
    let attempts = args.for_s * 1000 / args.every_ms;
    ensure!(attempts <= ATTEMPTS_MAX, "that is more than {ATTEMPTS_MAX} connections");
    let tally = Tally::of(open_all(attempts, &args, stop).await?);
    serde_json::to_writer(&mut *out, &tally)?;
    Ok(writeln!(out)?)
}

async fn open_all(
    attempts: u64,
    args: &ConnectArgs,
    stop: CancellationToken,
) -> anyhow::Result<Vec<Attempt>> {
    // Resolved once: a Service keeps its address, and the resolver is not what is measured.
    let address = lookup_host(&args.target).await.with_context(|| args.target.clone())?.next();
    let target = Arc::new(Target {
        address: address.with_context(|| format!("{} has no address", args.target))?,
        path: (!args.tcp).then(|| args.path.clone()),
        host: args.target.clone(),
        timeout: Duration::from_millis(args.timeout_ms),
    });
    let began = Instant::now();
    let mut tick = interval(Duration::from_millis(args.every_ms));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut open = JoinSet::new();
    for _ in 0..attempts {
        tokio::select! {
            _ = tick.tick() => {}
            () = stop.cancelled() => break,
        }
        open.spawn(attempt(target.clone(), began));
    }
    Ok(open.join_all().await)
}

async fn attempt(target: Arc<Target>, began: Instant) -> Attempt {
    let since_began = || u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let begun_ms = since_began();
    let answered = match timeout(target.timeout, who_answers(&target)).await {
        Ok(answered) => answered.map_err(|error| error.kind().to_string()),
        Err(_) => Err(io::ErrorKind::TimedOut.to_string()),
    };
    Attempt { begun_ms, ended_ms: since_began(), answered }
}

async fn who_answers(target: &Target) -> io::Result<String> {
    let tcp = TcpStream::connect(target.address).await?;
    tcp.set_nodelay(true)?;
    match &target.path {
        Some(path) => ask(tcp, &target.host, path).await,
        None => Ok(read_greeting(&mut BufReader::new(tcp)).await?.answered_by.name),
    }
}

/// Asks over HTTP/1.1. An answer that is not the shop's counts under its status.
async fn ask(tcp: TcpStream, host: &str, path: &str) -> io::Result<String> {
    let (mut http, driver) =
        hyper::client::conn::http1::handshake(TokioIo::new(tcp)).await.map_err(as_io)?;
    tokio::spawn(driver);
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.uri_mut() = path.parse().map_err(io::Error::other)?;
    request.headers_mut().insert(HOST, host.parse().map_err(io::Error::other)?);

    let response = http.send_request(request).await.map_err(as_io)?;
    let status = response.status();
    let body = Limited::new(response.into_body(), ANSWER_MAX_BYTES).collect().await;
    let body = body.map_err(|_| io::ErrorKind::UnexpectedEof)?.to_bytes();
    let answer = serde_json::from_slice::<Answer>(&body);
    Ok(answer.map_or_else(|_| format!("HTTP {status}"), |answer| answer.answered_by.name))
}

/// Keeps the kind of the I/O error below, which is what is counted.
fn as_io(error: hyper::Error) -> io::Error {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return io.kind().into();
        }
        cause = error.source();
    }
    if error.is_incomplete_message() || error.is_closed() {
        return io::ErrorKind::UnexpectedEof.into();
    }
    io::Error::other(error)
}
