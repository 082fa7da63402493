//! The recommendation service: the shop's gRPC, both ends.

use std::time::Duration;

use tokio::{net::TcpListener, time::sleep};
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::{
    Request, Response, Status,
    transport::{Channel, Endpoint, Server},
};

use crate::{
    answer::{Answer, AnsweredBy},
    forwarded::Forwarded,
    proto::{
        SuggestReply, SuggestRequest,
        recommend_client::RecommendClient,
        recommend_server::{Recommend, RecommendServer},
    },
    serve::DRAIN,
};

/// More calls than this on one connection wait.
const CALLS_MAX: usize = 256;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Serves recommendations until `stop`, then drains.
pub async fn serve_recommend(
    listener: TcpListener,
    who: AnsweredBy,
    stop: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let incoming = TcpListenerStream::new(listener);
    let serving = Server::builder()
        .concurrency_limit_per_connection(CALLS_MAX)
        .add_service(RecommendServer::new(Suggestions(who)))
        .serve_with_incoming_shutdown(incoming, stop.cancelled());
    let give_up = async {
        stop.cancelled().await;
        sleep(DRAIN).await;
    };
    tokio::select! {
        served = serving => served,
        () = give_up => Ok(()),
    }
}

#[derive(Debug)]
struct Suggestions(AnsweredBy);

#[tonic::async_trait]
impl Recommend for Suggestions {
    async fn suggest(
        &self,
        request: Request<SuggestRequest>,
    ) -> Result<Response<SuggestReply>, Status> {
        let headers = request.metadata().clone().into_headers();
        let item = request.into_inner().item;
        Ok(Response::new(SuggestReply {
            name: self.0.name.clone(),
            process: self.0.process,
            items: vec![format!("a second {item}")],
            baggage: Forwarded::of(&headers).baggage().unwrap_or_default(),
        }))
    }
}

/// The calling side: one HTTP/2 connection, made at the first call and made again when it broke.
#[derive(Debug, Clone)]
pub struct Caller(Channel);

impl Caller {
    /// Prepares calls to `url` (`http://recommend:50051`) without connecting.
    pub fn new(url: http::Uri) -> Self {
        Caller(Endpoint::from(url).connect_timeout(CONNECT_TIMEOUT).connect_lazy())
    }

    /// Asks for a suggestion.
    pub async fn suggest(&self, forwarded: &Forwarded) -> Result<Answer, Status> {
        let mut request = Request::new(SuggestRequest { item: "teapot".to_owned() });
        *request.metadata_mut() = forwarded.metadata();
        let reply = RecommendClient::new(self.0.clone()).suggest(request).await?.into_inner();
        Ok(Answer {
            answered_by: AnsweredBy {
                role: "recommend".to_owned(),
                name: reply.name,
                process: reply.process,
            },
            path: "/shop.v1.Recommend/Suggest".to_owned(),
            baggage: (!reply.baggage.is_empty()).then_some(reply.baggage),
            calls: Vec::new(),
        })
    }
}
