//! Dialling out: to the relay for a carrier, to the hub for a link; directly, or through the proxy that the settings name
//! for that host. Which of its two doors the relay is dialled at is [`Ways`]' business, by
//! which way a link goes [`LinkWay`]'s.
//!
//! Errors tell apart what a person must do something different about: nobody answers there, the proxy does not let us
//! through, the certificate is not trusted, it is made out to another name, a clock is wrong.

mod http_proxy;
mod hub;
pub(crate) mod link;
mod proxy;
mod relay;
mod socks;
mod ways;

use std::{io, sync::Arc, time::Duration};

use fairlead_model::{ProxySettings, host_and_port, timers::CONNECT};
use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout,
};

pub use fairlead_trust::{HubTrust, TrustError, why_not_trusted};
pub use hub::{HubChannel, HubError, dial_hub, is_decision, is_unknown};
pub use link::{LinkWay, NotBegun};
pub use proxy::ProxyError;
pub use relay::{NoWay, RelayError, dial_relay};
pub use ways::{Half, WayClosed, Ways};

use crate::{connection::Connection, socket::tune_for_wan};

/// How this program dials out. Clones share it. By default it dials directly, and trusts nobody's certificate.
#[derive(Clone, Debug, Default)]
pub struct Connector {
    proxies: Arc<ProxySettings>,
    trust: HubTrust,
}

impl Connector {
    #[must_use]
    pub fn new(proxies: ProxySettings, trust: HubTrust) -> Self {
        Self { proxies: Arc::new(proxies), trust }
    }

    /// Dials directly, whatever the host.
    #[must_use]
    pub fn direct(trust: HubTrust) -> Self {
        Self::new(ProxySettings::default(), trust)
    }

    pub(crate) const fn trust(&self) -> &HubTrust {
        &self.trust
    }

    /// Connects to `host:port`, by the way that the settings say.
    pub(crate) async fn dial(&self, host: &str, port: u16) -> Result<Dialled, DialError> {
        match self.proxies.towards(host, port) {
            None => {
                let tcp = dial_tcp(&host_and_port(host, port)).await?;
                Ok(Dialled { io: Box::new(tcp), proxy: None })
            }
            Some(proxy) => {
                let io = proxy::dial_through(proxy, &self.trust, host, port).await?;
                Ok(Dialled { io, proxy: Some(proxy.place()) })
            }
        }
    }
}

/// A connection to where was dialled, and the proxy it goes through.
pub(crate) struct Dialled {
    pub(crate) io: Connection,
    pub(crate) proxy: Option<String>,
}

/// Why nothing came of dialling.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    #[error(transparent)]
    Network(#[from] io::Error),
    #[error(transparent)]
    Proxy(#[from] ProxyError),
}

/// Connects to the first address of `host:port` that answers.
async fn dial_tcp(host_and_port: &str) -> io::Result<TcpStream> {
    timeout(CONNECT, dial_each(host_and_port)).await.map_err(|_| timed_out(CONNECT))?
}

async fn dial_each(host_and_port: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in lookup_host(host_and_port).await? {
        match TcpStream::connect(address).await {
            Ok(tcp) => {
                tune_for_wan(&tcp)?;
                return Ok(tcp);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn timed_out(after: Duration) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {} s", after.as_secs()))
}
