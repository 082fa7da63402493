//! What a page asks to make its answer: HTTP over a keep-alive pool, gRPC, or the ledger's plain TCP.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::{
    client::legacy::{
        Client,
        connect::{HttpConnector, HttpInfo},
    },
    rt::{TokioExecutor, TokioTimer},
};
use tokio::time::{Instant, timeout};

use crate::{
    answer::{Answer, Call, Outcome},
    forwarded::Forwarded,
    ledger, recommend,
};

/// A call that takes longer has failed.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// An answer is a few kilobytes.
const ANSWER_MAX_BYTES: usize = 1 << 20;
const IDLE_PER_HOST: usize = 16;

/// Where a call goes, and how it is made.
#[derive(Debug)]
pub struct Upstream {
    /// The caller's name for it.
    pub to: String,
    pub kind: Kind,
}

/// How a call is made.
#[derive(Debug)]
pub enum Kind {
    Http {
        url: Uri,
        pool: Arc<Pool>,
    },
    Grpc(recommend::Caller),
    /// `host:port`.
    Ledger(String),
}

/// Why a call gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallFailed {
    #[error("no answer within {} s", CALL_TIMEOUT.as_secs())]
    TimedOut(#[from] tokio::time::error::Elapsed),
    #[error("{}", chain(.0))]
    Http(#[from] hyper_util::client::legacy::Error),
    #[error("the answer broke off: {0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
    #[error("not an answer of the shop (HTTP {status}): {source}")]
    NotAnAnswer { status: u16, source: serde_json::Error },
    #[error("{0}")]
    Grpc(#[from] tonic::Status),
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

impl Upstream {
    /// Calls it, passing the journey's headers on, and says what came of it.
    pub async fn call(&self, path: &str, forwarded: &Forwarded) -> Call {
        let asked = timeout(CALL_TIMEOUT, self.ask(path, forwarded)).await;
        let (over, outcome) = match asked.map_err(CallFailed::from).flatten() {
            Ok((answer, over)) => (over, Outcome::Answer(Box::new(answer))),
            Err(failed) => (None, Outcome::Error(failed.to_string())),
        };
        Call { to: self.to.clone(), over, outcome }
    }

    async fn ask(
        &self,
        path: &str,
        forwarded: &Forwarded,
    ) -> Result<(Answer, Option<SocketAddr>), CallFailed> {
        match &self.kind {
            Kind::Http { url, pool } => pool.get(url, forwarded).await,
            Kind::Grpc(recommend) => Ok((recommend.suggest(forwarded).await?, None)),
            Kind::Ledger(address) => {
                let (answer, over) = ledger::enter(address, path).await?;
                Ok((answer, Some(over)))
            }
        }
    }
}

type HttpPool = Client<HttpConnector, Empty<Bytes>>;

/// Keep-alive connections, all replaced after a while as real pools do it.
///
/// A connection that lives on never notices that its Service leads somewhere else; the life says
/// how soon this shop does. Without one the pool keeps its connections for ever.
#[derive(Debug)]
pub struct Pool {
    life: Option<Duration>,
    current: Mutex<(Instant, HttpPool)>,
}

impl Pool {
    pub fn new(life: Option<Duration>) -> Self {
        Pool { life, current: Mutex::new((Instant::now(), fresh())) }
    }

    /// Asks for `url` and reads the answer, over whichever connection is free.
    pub async fn get(
        &self,
        url: &Uri,
        forwarded: &Forwarded,
    ) -> Result<(Answer, Option<SocketAddr>), CallFailed> {
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = url.clone();
        forwarded.add_to(request.headers_mut());

        let response = self.pool().request(request).await?;
        let status = response.status().as_u16();
        let over = response.extensions().get::<HttpInfo>().map(HttpInfo::local_addr);
        let body = Limited::new(response.into_body(), ANSWER_MAX_BYTES).collect().await;
        let body = body.map_err(CallFailed::Body)?.to_bytes();
        let answer = serde_json::from_slice(&body)
            .map_err(|source| CallFailed::NotAnAnswer { status, source })?;
        Ok((answer, over))
    }

    fn pool(&self) -> HttpPool {
        let mut current = self.current.lock().expect("nothing panics while it is held");
        if self.life.is_some_and(|life| current.0.elapsed() >= life) {
            *current = (Instant::now(), fresh());
        }
        current.1.clone()
    }
}

fn fresh() -> HttpPool {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
    Client::builder(TokioExecutor::new())
        .pool_max_idle_per_host(IDLE_PER_HOST)
        .pool_timer(TokioTimer::new())
        .build(connector)
}

/// Says an error with its causes: the outermost one of hyper's is "client error (Connect)".
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
