//! `shop get`: asks for a URL and prints the answers; a keep-alive pool carries them.

use std::{io::Write, time::Duration};

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::args::GetArgs;

const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
const BODY_MAX_BYTES: usize = 64 << 20;

/// Asks as often as wanted and prints each body. An answer that is not 2xx is an error, printed all the same.
pub async fn get(
    args: GetArgs,
    stop: CancellationToken,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let pool = Client::builder(TokioExecutor::new()).build_http();
    let headers = headers(&args.headers)?;
    let mut refused = None;
    for round in 0..args.times {
        if round > 0 {
            tokio::select! {
                () = sleep(Duration::from_millis(args.every_ms)) => {}
                () = stop.cancelled() => break,
            }
        }
        let answered = timeout(ANSWER_TIMEOUT, ask(&pool, &args, headers.clone())).await;
        let (status, body) = answered.context("no answer in time")??;
        out.write_all(&body)?;
        if !status.is_success() {
            refused = Some(status);
        }
    }
    match refused {
        Some(status) => bail!("{} answered {status}", args.url),
        None => Ok(()),
    }
}

async fn ask(
    pool: &Client<HttpConnector, Full<Bytes>>,
    args: &GetArgs,
    headers: HeaderMap,
) -> anyhow::Result<(http::StatusCode, Bytes)> {
    let mut request = Request::new(Full::from(args.post.clone().unwrap_or_default()));
    if args.post.is_some() {
        *request.method_mut() = Method::POST;
    }
    *request.uri_mut() = args.url.clone();
    *request.headers_mut() = headers;
    let response = pool.request(request).await.with_context(|| format!("asking {}", args.url))?;
    let status = response.status();
    let body = Limited::new(response.into_body(), BODY_MAX_BYTES).collect().await;
    let body = body.map_err(|error| anyhow::anyhow!("the answer broke off: {error}"))?;
    Ok((status, body.to_bytes()))
}

fn headers(lines: &[String]) -> anyhow::Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(':').context("expected `NAME: VALUE` after -H")?;
        ensure!(!name.trim().is_empty(), "a header needs a name");
        headers.append(name.trim().parse::<HeaderName>()?, HeaderValue::from_str(value.trim())?);
    }
    Ok(headers)
}
