//! Which way a link takes to the hub: HTTP/2 as it is, or the same inside a WebSocket. Whatever opens TLS on the way may
//! speak no HTTP/2, or keep what is streamed to itself until it ends, which a link never does; WebSockets it lets pass.
//!
//! Nobody configures it: HTTP/2 is tried first, and what was found out is remembered until it fails.

use std::time::Duration;

use tokio::time::timeout;

use super::{
    Connector,
    hub::{HubChannel, HubError, in_websocket, over_http2},
};

/// The hub says its first word as soon as a link is opened. Where nothing is heard for so long, somebody on the way keeps
/// what was said to themselves.
const FIRST_WORD: Duration = Duration::from_secs(3);

/// Connects to the hub at `https://host[:port]` for a call that ends with its answer.
pub async fn dial_hub(address: &str, connector: &Connector) -> Result<HubChannel, HubError> {
    LinkWay::default().dial(address, connector).await
}

/// The way that the next link takes.
#[derive(Debug, Default)]
pub struct LinkWay {
    is_in_websocket: bool,
}

/// A link is open and nothing is heard on it.
#[derive(Debug, thiserror::Error)]
#[error(
    "nothing came back over {way} for {} s: a hub that is slow, or something on the way that keeps what is streamed to \
     itself; {other} is tried next",
    FIRST_WORD.as_secs()
)]
pub struct HeldBack {
    way: &'static str,
    other: &'static str,
}

impl LinkWay {
    /// Connects to the hub at `https://host[:port]`.
    pub async fn dial(
        &mut self,
        address: &str,
        connector: &Connector,
    ) -> Result<HubChannel, HubError> {
        if self.is_in_websocket {
            return in_websocket(address, connector).await.inspect_err(|_| self.turn());
        }
        let no_http2 = match over_http2(address, connector).await {
            Err(error @ HubError::NoHttp2 { .. }) => error,
            dialled => return dialled,
        };
        let channel = in_websocket(address, connector).await.map_err(|_| no_http2)?;
        self.turn();
        Ok(channel)
    }

    /// Waits for the hub's first word on a link that was just opened. If it does not come, the next link takes the other
    /// way.
    pub async fn first_word<W>(&mut self, word: impl Future<Output = W>) -> Result<W, HeldBack> {
        let heard = timeout(FIRST_WORD, word).await;
        heard.map_err(|_| {
            let way = self.name();
            self.turn();
            HeldBack { way, other: self.name() }
        })
    }

    /// Returns what the way is called.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        if self.is_in_websocket { "a WebSocket" } else { "HTTP/2" }
    }

    #[must_use]
    pub const fn is_in_websocket(&self) -> bool {
        self.is_in_websocket
    }

    const fn turn(&mut self) {
        self.is_in_websocket = !self.is_in_websocket;
    }
}
