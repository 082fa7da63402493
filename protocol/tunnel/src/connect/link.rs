//! Which way a link takes to the hub: HTTP/2 as it is, or the same inside a WebSocket. Whatever opens TLS on the way may
//! speak no HTTP/2, understand no gRPC, or keep what is streamed to itself until it ends, which a link never does;
//! WebSockets it lets pass.
//!
//! Nobody configures it: HTTP/2 is tried first, and a WebSocket once that has not led to a hub that answers. There it stays
//! until it is refused: a hub that is away says nothing of the way. Where another speaks in its place, that is taken for the
//! way's doing: it cannot be told apart.

use std::{error::Error as _, time::Duration};

use tokio::time::timeout;
use tonic::{Code, Status};

use super::{
    Connector,
    hub::{HubChannel, HubError, in_websocket, over_http2},
};
use crate::websocket::NoWebSocket::{Broken, Refused};

/// The hub says its first word as soon as a link is opened. Where nothing is heard for so long, somebody on the way keeps
/// what was said to themselves.
pub(crate) const FIRST_WORD: Duration = Duration::from_secs(3);

/// The way that the next link takes.
#[derive(Debug, Default)]
pub struct LinkWay {
    is_in_websocket: bool,
}

/// Why a link that was opened has not begun.
#[derive(Debug, thiserror::Error)]
pub enum NotBegun {
    #[error(
        "nothing came back for {} s: the hub is slow, or something on the way keeps what is streamed to itself",
        _0.as_secs()
    )]
    HeldBack(Duration),
    #[error("{}", _0.message())]
    Refused(Status),
}

impl LinkWay {
    /// Connects to the hub at `https://host[:port]`.
    pub async fn dial(
        &mut self,
        address: &str,
        connector: &Connector,
    ) -> Result<HubChannel, HubError> {
        if self.is_in_websocket {
            let dialled = in_websocket(address, connector).await;
            self.is_in_websocket = dialled.as_ref().err().is_none_or(HubError::is_absence);
            return dialled;
        }
        let no_http2 = match over_http2(address, connector).await {
            Err(error @ HubError::NoHttp2 { .. }) => error,
            dialled => return dialled,
        };
        let dialled = in_websocket(address, connector).await;
        self.is_in_websocket = dialled.is_ok();
        dialled.map_err(|error| match error {
            HubError::NoWebSocket { source: Refused(_) | Broken(_), .. } => no_http2,
            error => error,
        })
    }

    /// Waits for the hub's first word on a link that was just opened. If somebody else answers, or nobody, the other way
    /// is taken next.
    pub async fn first_word<W>(
        &mut self,
        word: impl Future<Output = Result<W, Status>>,
    ) -> Result<W, NotBegun> {
        self.answer(word, FIRST_WORD).await
    }

    /// The same for what may take longer to answer.
    pub async fn answer<W>(
        &mut self,
        answer: impl Future<Output = Result<W, Status>>,
        within: Duration,
    ) -> Result<W, NotBegun> {
        let Ok(said) = timeout(within, answer).await else {
            self.is_in_websocket = !self.is_in_websocket;
            return Err(NotBegun::HeldBack(within));
        };
        said.map_err(|status| {
            if is_of_somebody_else(&status) {
                self.was_not_understood();
            }
            NotBegun::Refused(status)
        })
    }

    /// Takes note that the hub has begun, and then not heard what it was told. Inside a WebSocket that is its own doing.
    pub const fn was_not_understood(&mut self) {
        self.is_in_websocket = true;
    }

    #[must_use]
    pub const fn is_in_websocket(&self) -> bool {
        self.is_in_websocket
    }

    /// Returns what the way is called.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        if self.is_in_websocket { "a WebSocket" } else { "HTTP/2" }
    }
}

/// Says whether the hub may not have seen the call: it gives a status to each, and none of these to one that it knows. What
/// tonic makes of another answer says that the status is missing. A connection that broke says nothing of the way: the hub
/// may have been stopped.
fn is_of_somebody_else(status: &Status) -> bool {
    if let Some(error) = caused_by_h2(status) {
        return error.is_reset() && error.is_remote();
    }
    matches!(status.code(), Code::Unknown | Code::Internal | Code::Unimplemented)
        || status.message().contains("grpc-status")
}

fn caused_by_h2(status: &Status) -> Option<&h2::Error> {
    let mut cause = status.source();
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref() {
            return Some(error);
        }
        cause = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_the_hub_decides_is_no_reason_to_go_another_way_and_what_others_say_is() {
        let said = |status: Status| async move {
            let mut way = LinkWay::default();
            let refused = way.first_word(std::future::ready(Err::<(), _>(status))).await;
            assert!(matches!(refused, Err(NotBegun::Refused(_))));
            way.is_in_websocket()
        };
        assert!(!said(Status::not_found("the hub does not know this teamspace key")).await);
        assert!(!said(Status::unavailable("the hub cannot reach its database")).await);
        assert!(!said(Status::resource_exhausted("too many links")).await);
        let mapped = "grpc-status header missing, mapped from HTTP status code 403";
        assert!(said(Status::permission_denied(mapped)).await);
        assert!(said(Status::unknown("missing grpc-status trailer")).await);
        assert!(said(Status::unimplemented("")).await);
        let broken = h2::Error::from(h2::Reason::PROTOCOL_ERROR);
        assert!(!said(Status::from_error(Box::new(broken))).await, "found here");
    }
}
