//! Which way a half of a carrier takes to the relay: its own port, or a WebSocket at the hub's address. Nobody configures
//! it: the port is tried first, and what was found out is remembered for a while.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use fairlead_model::{CarrierPath, Transport};
use fairlead_wire::{preface::Side, ticket::Ticket};
use tokio::{
    sync::Notify,
    task::JoinError,
    time::{Instant, timeout},
};
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, info};

use super::{
    Connector, DialError, Dialled, HubError, ProxyError,
    hub::{hub_at, secure},
    relay::{NoWay, RelayError, bring, relay_at},
};
use crate::{
    connection::Connection,
    websocket::{CARRIER_PATH, NoWebSocket, WebSocket},
};

/// So much sooner the port is tried. It needs one round trip, or two through a proxy, the WebSocket at least three; a
/// network that swallows what goes to the port costs a carrier no more than this.
const HEAD_START: Duration = Duration::from_millis(300);
/// A port that was closed is tried again after this time. Networks are left sooner, which a link that breaks shows.
const PORT_AGAIN: Duration = Duration::from_secs(300);

/// Why one of the ways is closed.
#[derive(Debug, thiserror::Error)]
pub enum WayClosed {
    #[error("{0}")]
    Network(#[from] io::Error),
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    #[error("it does not answer as soon as the hub does")]
    Late,
    #[error("what is said there is cut off")]
    Cut,
    #[error("what answers there is no Fairlead relay")]
    NotARelay,
    #[error(transparent)]
    Hub(#[from] HubError),
    #[error(transparent)]
    WebSocket(#[from] NoWebSocket),
}

impl From<DialError> for WayClosed {
    fn from(error: DialError) -> Self {
        match error {
            DialError::Network(error) => error.into(),
            DialError::Proxy(error) => error.into(),
        }
    }
}

/// A half of a carrier that the relay has joined with the other one, unprotected: TLS begins on it.
#[derive(Debug)]
pub struct Half {
    pub io: Connection,
    pub path: CarrierPath,
}

/// Somebody who may be the relay, and has not been told anything yet.
struct Reached {
    io: Connection,
    path: CarrierPath,
}

impl Reached {
    fn new(dialled: Dialled, transport: Transport) -> Self {
        Self { io: dialled.io, path: CarrierPath { transport, proxy: dialled.proxy } }
    }

    async fn bring(self, ticket: &Ticket, side: Side) -> Result<Half, RelayError> {
        Ok(Half { io: bring(self.io, ticket, side).await?, path: self.path })
    }
}

/// Who was reached first.
enum Raced {
    Port(Reached),
    Hub(Reached),
}

type PortTask = AbortOnDropHandle<Result<Reached, WayClosed>>;

fn came_of(task: Result<Result<Reached, WayClosed>, JoinError>) -> Result<Reached, WayClosed> {
    task.unwrap_or_else(|panic| Err(io::Error::other(panic).into()))
}

/// The ways to the relay of one hub, and what is known of them. Clones share it.
#[derive(Clone, Debug)]
pub struct Ways {
    connector: Connector,
    host: Arc<str>,
    port: u16,
    /// Until when the relay's own port is not tried.
    port_closed_until: Arc<Mutex<Option<Instant>>>,
}

impl Ways {
    /// Knows nothing yet of the ways to the hub at `https://host[:port]`.
    pub fn to_hub(address: &str, connector: Connector) -> Result<Self, HubError> {
        let (host, port) = hub_at(address)?;
        Ok(Self { connector, host: host.into(), port, port_closed_until: Arc::default() })
    }

    /// Forgets which way was closed; for when the network may be another one.
    pub fn look_again(&self) {
        *self.memory() = None;
    }

    /// Connects to the relay by whichever way is open, shows the ticket, and waits until the other half is there.
    pub async fn dial(&self, relay: &str, ticket: &Ticket, side: Side) -> Result<Half, RelayError> {
        let at = relay_at(relay)?;
        if self.port_is_closed() {
            let reached = self.reach_hub().await.inspect_err(|_| self.look_again());
            let reached = reached.map_err(|web| NoWay::error(None, web))?;
            return reached.bring(ticket, side).await;
        }
        let port = match self.reach(at).await? {
            Raced::Hub(reached) => return reached.bring(ticket, side).await,
            Raced::Port(reached) => match reached.bring(ticket, side).await {
                Err(RelayError::Closed(why)) => why,
                brought => return brought,
            },
        };
        // The relay answers whoever shows it a ticket. Somebody else has that port, or swallows what is said to it. If the
        // ticket came through all the same, it is refused now.
        self.port_is_shut(&port);
        match self.reach_hub().await {
            Ok(reached) => reached.bring(ticket, side).await,
            Err(web) => Err(NoWay::error(Some(port), web)),
        }
    }

    /// Reaches the port, or the hub when the port is closed or takes its time. Nothing is said to either yet.
    async fn reach(&self, at: (String, u16)) -> Result<Raced, RelayError> {
        let failed = Arc::new(Notify::new());
        let mut port = self.begin_to_reach_port(at, Arc::clone(&failed));
        let hub = async {
            // Whether it failed or takes its time, it is the hub's turn.
            let _is_late = timeout(HEAD_START, failed.notified()).await;
            self.reach_hub().await
        };
        tokio::pin!(hub);
        tokio::select! {
            reached = &mut port => match came_of(reached) {
                Ok(reached) => Ok(Raced::Port(reached)),
                Err(port) => {
                    self.port_is_shut(&port);
                    match hub.await {
                        Ok(reached) => Ok(Raced::Hub(reached)),
                        Err(web) => Err(NoWay::error(Some(port), web)),
                    }
                }
            },
            reached = &mut hub => match reached {
                Ok(reached) => {
                    self.port_is_shut(&WayClosed::Late);
                    self.listen_for_the_port(port);
                    Ok(Raced::Hub(reached))
                }
                Err(web) => match came_of(port.await) {
                    Ok(reached) => Ok(Raced::Port(reached)),
                    Err(port) => Err(NoWay::error(Some(port), web)),
                },
            },
        }
    }

    /// In a task of its own, since it may be waited for after the carrier has been made.
    fn begin_to_reach_port(&self, (host, port): (String, u16), failed: Arc<Notify>) -> PortTask {
        let connector = self.connector.clone();
        AbortOnDropHandle::new(tokio::spawn(async move {
            match connector.dial(&host, port).await {
                Ok(dialled) => Ok(Reached::new(dialled, Transport::Raw)),
                Err(error) => {
                    failed.notify_one();
                    Err(error.into())
                }
            }
        }))
    }

    /// A port that answers late is open all the same, and the next carrier takes it.
    fn listen_for_the_port(&self, port: PortTask) {
        let ways = self.clone();
        // Ends with the patience of whoever dials.
        tokio::spawn(async move {
            if came_of(port.await).is_ok() {
                debug!("The relay's own port is only slow");
                ways.look_again();
            }
        });
    }

    async fn reach_hub(&self) -> Result<Reached, WayClosed> {
        let (tls, proxy) = secure(&self.host, self.port, b"http/1.1", &self.connector).await?;
        let socket = WebSocket::dial(Box::new(tls), &self.host, self.port, CARRIER_PATH).await?;
        let path = CarrierPath { transport: Transport::Wss, proxy };
        Ok(Reached { io: Box::new(socket), path })
    }

    fn port_is_shut(&self, why: &WayClosed) {
        info!(%why, "The relay's own port is closed: carriers go over the hub's address");
        *self.memory() = Some(Instant::now() + PORT_AGAIN);
    }

    fn port_is_closed(&self) -> bool {
        self.memory().is_some_and(|until| Instant::now() < until)
    }

    fn memory(&self) -> MutexGuard<'_, Option<Instant>> {
        self.port_closed_until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
