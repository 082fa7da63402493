//! The relay on the hub's own port: who comes in by a WebSocket. The ticket inside is redeemed by the same code as at the
//! raw port, and strangers share its places.

use std::io;

use fairlead_model::timers::PREFACE;
use fairlead_tunnel::{abortable::AbortSwitch, connection::Connection, websocket::WebSocket};
use fairlead_wire::preface::PREFACE_BYTES;
use tokio::{io::AsyncReadExt as _, sync::OwnedSemaphorePermit, time::timeout};

use crate::{
    door::{seat, understood},
    half::{Half, WebHalf},
    relay::Relay,
};

/// The place of somebody who has not shown a ticket yet.
#[derive(Debug)]
pub struct Stranger {
    relay: Relay,
    place: OwnedSemaphorePermit,
}

impl Relay {
    /// Lets somebody in who asks for a WebSocket; nobody when there are too many strangers, or the relay is stopping.
    #[must_use]
    pub fn let_in(&self) -> Option<Stranger> {
        if self.stopping().is_cancelled() {
            return None;
        }
        let place = self.strangers().clone().try_acquire_owned().ok()?;
        Some(Stranger { relay: self.clone(), place })
    }
}

impl Stranger {
    /// Hears the ticket within the time that the raw port gives as well, and then carries what comes, until it ends.
    ///
    /// `upgraded` is the connection on which a WebSocket was agreed; `abort` makes its close an abort.
    pub async fn comes_in(
        self,
        upgraded: impl Future<Output = io::Result<Connection>>,
        abort: AbortSwitch,
    ) {
        let Self { relay, place } = self;
        let introduced = async {
            let mut socket = WebSocket::served(upgraded.await?).await;
            let mut bytes = [0; PREFACE_BYTES];
            socket.read_exact(&mut bytes).await?;
            io::Result::Ok((socket, bytes))
        };
        let read = match timeout(PREFACE, introduced).await {
            Ok(read) => read.inspect_err(|error| {
                tracing::debug!(%error, "A WebSocket ended before it said what it is");
            }),
            Err(_) => return tracing::debug!("A WebSocket did not say in time what it is"),
        };
        let Ok((socket, bytes)) = read else { return };
        let Some(preface) = understood(&bytes) else { return };
        drop(place);
        let (sender, receiver) = socket.split();
        seat(&relay, &preface, Half::Web(Box::new(WebHalf { sender, receiver, abort }))).await;
    }
}
