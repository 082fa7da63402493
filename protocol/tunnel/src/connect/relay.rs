//! One half of a carrier, brought to the relay.

use std::{io, time::Duration};

use fairlead_model::timers::{PREFACE, TICKET_LIFE};
use fairlead_wire::{
    preface::{Answer, Preface, Side},
    ticket::Ticket,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use super::{Connector, ways::WayClosed};
use crate::connection::Connection;

/// The relay says at once whether it knows a ticket. Where nothing is heard for so long, somebody on the way keeps what
/// was said for themselves.
const FIRST_WORD: Duration = Duration::from_secs(3);

#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    #[error("`{0}` is not the address of a relay")]
    BadAddress(String),
    #[error("the way to the relay is closed: {0}")]
    Closed(WayClosed),
    #[error(transparent)]
    NoWay(Box<NoWay>),
    #[error("the relay refused the ticket: it is used, expired, or the other end did not come")]
    Refused,
    #[error("the other end did not come to the relay in time")]
    TimedOut,
}

/// Neither way leads to the relay.
#[derive(Debug, thiserror::Error)]
#[error("there is no way to the relay: {web}{}", also(port.as_ref()))]
pub struct NoWay {
    /// Why its own port is closed; unknown where that was remembered.
    pub port: Option<WayClosed>,
    /// Why the hub's address is.
    pub web: WayClosed,
}

impl NoWay {
    pub(super) fn error(port: Option<WayClosed>, web: WayClosed) -> RelayError {
        RelayError::NoWay(Box::new(Self { port, web }))
    }
}

fn also(port: Option<&WayClosed>) -> String {
    port.map(|why| format!("; and at its own port: {why}")).unwrap_or_default()
}

/// Connects to the relay's own port, shows the ticket and waits until the other half is there too; for whoever knows that
/// the port is open.
///
/// What comes back is connected to the other end of the carrier, unprotected: TLS begins on it.
pub async fn dial_relay(
    relay: &str,
    ticket: &Ticket,
    side: Side,
    connector: &Connector,
) -> Result<Connection, RelayError> {
    let (host, port) = relay_at(relay)?;
    let dialled = connector.dial(&host, port).await;
    let dialled = dialled.map_err(|error| RelayError::Closed(error.into()))?;
    bring(dialled.io, ticket, side).await
}

/// Reads `host:port`, the host without brackets.
pub(super) fn relay_at(relay: &str) -> Result<(String, u16), RelayError> {
    let bad = || RelayError::BadAddress(relay.to_owned());
    let (host, port) = relay.rsplit_once(':').ok_or_else(bad)?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Ok((host.to_owned(), port.parse().map_err(|_| bad())?))
}

/// Shows the ticket to whoever was reached, and waits until the other half is there.
pub(super) async fn bring(
    mut io: Connection,
    ticket: &Ticket,
    side: Side,
) -> Result<Connection, RelayError> {
    let cut = |_: io::Error| RelayError::Closed(WayClosed::Cut);
    let preface = Preface { side, ticket: ticket.clone() };
    io.write_all(&preface.encode()).await.map_err(cut)?;
    io.flush().await.map_err(cut)?;
    let first = timeout(FIRST_WORD, io.read_u8()).await;
    let first = first.map_err(|_| RelayError::Closed(WayClosed::Cut))?.map_err(cut)?;
    let answer = match Answer::parse(first) {
        // From here on it is the relay that we speak with.
        Some(Answer::Waiting) => {
            let second = timeout(TICKET_LIFE + PREFACE, io.read_u8()).await;
            let second = second.map_err(|_| RelayError::TimedOut)?;
            // It was there a moment ago, and has gone.
            Answer::parse(second.map_err(|_| RelayError::Refused)?)
        }
        answer => answer,
    };
    match answer {
        Some(Answer::Paired) => Ok(io),
        Some(Answer::Refused) => Err(RelayError::Refused),
        Some(Answer::Waiting) | None => Err(RelayError::Closed(WayClosed::NotARelay)),
    }
}
