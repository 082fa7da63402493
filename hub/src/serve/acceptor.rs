//! What every connection to the hub's own port gets before TLS: the options of a socket that carries a link or a carrier,
//! and a switch that makes its close an abort.

use std::{future::Ready, io};

use axum::{Extension, middleware::AddExtension};
use axum_server::accept::Accept;
use fairlead_tunnel::{
    abortable::{AbortSwitch, Abortable},
    socket::tune_for_wan,
};
use tokio::net::TcpStream;
use tower::Layer as _;

#[derive(Clone, Copy, Debug)]
pub(super) struct Tuned;

impl<S> Accept<TcpStream, S> for Tuned {
    type Stream = Abortable;
    type Service = AddExtension<S, AbortSwitch>;
    type Future = Ready<io::Result<(Self::Stream, Self::Service)>>;

    fn accept(&self, tcp: TcpStream, service: S) -> Self::Future {
        let tuned = tune_for_wan(&tcp).map(|()| {
            let (connection, switch) = Abortable::new(tcp);
            (connection, Extension(switch).layer(service))
        });
        std::future::ready(tuned)
    }
}
