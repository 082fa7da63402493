//! A page: one HTTP role of the shop. It asks its upstreams, all at once, and answers with the chain.
//!
//! Frontend, cart, catalog, payment and sidecar differ only in whom they ask.

use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::body::Incoming;
use tokio::task::JoinSet;

use crate::{
    answer::{Answer, AnsweredBy},
    forwarded::Forwarded,
    upstream::Upstream,
};

/// What every route answers with: either a whole text or the request's own bytes, streamed back.
pub type Body = BoxBody<Bytes, hyper::Error>;

/// One HTTP role.
#[derive(Debug)]
pub struct Page {
    pub answered_by: AnsweredBy,
    pub upstreams: Vec<Arc<Upstream>>,
}

impl Page {
    /// Answers one request.
    ///
    /// `/healthz` says only that the process lives: a pod whose upstream is gone is still a pod.
    pub async fn answer(&self, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        Ok(match (request.method(), request.uri().path()) {
            (_, "/healthz") => text(StatusCode::OK, "text/plain", "ok\n".to_owned()),
            (&Method::POST, "/echo") => Response::new(request.into_body().boxed()),
            (_, "/who") => json(&self.alone(&request)),
            (_, "/tree") => {
                let answer = self.ask_everyone(&request).await;
                text(status_of(&answer), "text/plain", answer.tree())
            }
            _ => json(&self.ask_everyone(&request).await),
        })
    }

    /// The answer without asking anybody: what a client wants that counts who answers.
    fn alone(&self, request: &Request<Incoming>) -> Answer {
        Answer {
            answered_by: self.answered_by.clone(),
            path: request.uri().path().to_owned(),
            baggage: Forwarded::of(request.headers()).baggage(),
            calls: Vec::new(),
        }
    }

    async fn ask_everyone(&self, request: &Request<Incoming>) -> Answer {
        let forwarded = Forwarded::of(request.headers());
        let path = request.uri().path().to_owned();
        let mut asked = JoinSet::new();
        for (place, upstream) in self.upstreams.iter().cloned().enumerate() {
            let (path, forwarded) = (path.clone(), forwarded.clone());
            asked.spawn(async move { (place, upstream.call(&path, &forwarded).await) });
        }
        let mut calls = asked.join_all().await;
        calls.sort_by_key(|(place, _)| *place);
        let calls = calls.into_iter().map(|(_, call)| call).collect();
        Answer { calls, ..self.alone(request) }
    }
}

/// An answer with a hole in it is a 502, so that a client that reads nothing notices.
fn status_of(answer: &Answer) -> StatusCode {
    if answer.is_whole() { StatusCode::OK } else { StatusCode::BAD_GATEWAY }
}

fn json(answer: &Answer) -> Response<Body> {
    let json = serde_json::to_string(answer).expect("an answer is plain data");
    text(status_of(answer), "application/json", json + "\n")
}

fn text(status: StatusCode, content_type: &'static str, body: String) -> Response<Body> {
    let body = Full::new(Bytes::from(body)).map_err(|never| match never {}).boxed();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
