//! The links: where cluster agents and laptops dial in, prove who they are, and hear what should be.

mod beat;
mod carriers;
mod catalogue;
mod cluster;
mod conversation;
mod doorway;
mod enrol;
mod handshake;
mod laptop;
mod registry;
mod words;

use std::{pin::Pin, time::Duration};

use axum::{middleware, response::Response};
use fairlead_wire::link::v1::{
    cluster_links_server::ClusterLinksServer, laptop_links_server::LaptopLinksServer,
};
use http::{HeaderMap, header};
use tokio_stream::Stream;
use tonic::{Status, service::Routes};

pub(crate) use carriers::offer_intercept;
pub(crate) use doorway::{Doorway, Stranger};
pub use registry::{Links, ReplicaName};
pub(crate) use words::{revoked, wanted_session};

use crate::Hub;

/// Messages that wait for one link. When it is full the link is dropped: its peer has stopped reading, and will be
/// told everything again when it comes back.
const QUEUE: usize = 256;
/// Largest message of a peer that is known; a full catalogue of some thousand services.
const MESSAGE_MAX_BYTES: usize = 8 << 20;

type Down<M> = Pin<Box<dyn Stream<Item = Result<M, Status>> + Send>>;

/// Returns both services, to be served on the same port as the REST API.
pub fn routes(hub: &Hub) -> axum::Router {
    let doorway = Doorway::new();
    let clusters = ClusterLinksServer::new(cluster::Clusters::new(hub.clone(), doorway.clone()))
        .max_decoding_message_size(MESSAGE_MAX_BYTES);
    let laptops = LaptopLinksServer::new(laptop::Laptops::new(hub.clone(), doorway))
        .max_decoding_message_size(MESSAGE_MAX_BYTES);
    // What is no link is not answered here: the console has the fallback.
    let links = Routes::new(clusters).add_service(laptops).prepare().into_axum_router();
    links.reset_fallback().layer(middleware::from_fn(doorway::limit_words))
}

/// Says whether a request is a call of gRPC, and so expects a status of gRPC.
pub(crate) fn is_call(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    kind.is_some_and(|kind| kind.starts_with("application/grpc"))
}

/// Answers whoever has called too often, and may again after this time.
pub(crate) fn too_many_calls(wait: Duration) -> Response {
    let wait_s = wait.as_secs() + 1;
    let advice = format!("too many links from this address: try again in {wait_s} s");
    Status::resource_exhausted(advice).into_http()
}

/// Answers a call that this hub does not know, as of a newer version of the link.
pub(crate) fn unknown_call() -> Response {
    Status::unimplemented("this hub does not know that call").into_http()
}

impl Hub {
    /// Returns the host name by which peers dial this hub: they sign it together with the challenge.
    fn host(&self) -> &str {
        self.config.public_url.host_str().unwrap_or_default()
    }

    /// Returns where both ends of a carrier dial.
    fn relay_address(&self) -> &str {
        &self.config.relay_address
    }
}
