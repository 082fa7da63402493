//! One half of a carrier, brought to the relay.

use std::io;

use fairlead_model::timers::{PREFACE, TICKET_LIFE};
use fairlead_wire::{
    preface::{Answer, Preface, Side},
    ticket::Ticket,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use super::{Connector, DialError, ProxyError};
use crate::connection::Connection;

#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    #[error("the relay at {relay} cannot be reached")]
    Unreachable { relay: String, source: io::Error },
    #[error("`{0}` is not the address of a relay")]
    BadAddress(String),
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    #[error("the relay refused the ticket: it is used, expired, or the other end did not come")]
    Refused,
    #[error("the other end did not come to the relay in time")]
    TimedOut,
    #[error("what answers at {relay} is no Fairlead relay")]
    NotARelay { relay: String },
}

/// Connects to the relay, shows the ticket and waits until the other half is there too.
///
/// What comes back is connected to the other end of the carrier, unprotected: TLS begins on it.
pub async fn dial_relay(
    relay: &str,
    ticket: &Ticket,
    side: Side,
    connector: &Connector,
) -> Result<Connection, RelayError> {
    let unreachable = |source| RelayError::Unreachable { relay: relay.to_owned(), source };
    let (host, port) = relay_at(relay)?;
    let dialled = connector.dial(&host, port).await.map_err(|error| match error {
        DialError::Network(source) => unreachable(source),
        DialError::Proxy(error) => error.into(),
    })?;
    let mut io = dialled.io;
    let preface = Preface { side, ticket: ticket.clone() };
    io.write_all(&preface.encode()).await.map_err(unreachable)?;
    io.flush().await.map_err(unreachable)?;
    let answer = timeout(TICKET_LIFE + PREFACE, io.read_u8())
        .await
        .map_err(|_| RelayError::TimedOut)?
        .map_err(unreachable)?;
    match Answer::parse(answer) {
        Some(Answer::Paired) => Ok(io),
        Some(Answer::Refused) => Err(RelayError::Refused),
        None => Err(RelayError::NotARelay { relay: relay.to_owned() }),
    }
}

/// Reads `host:port`, the host without brackets.
fn relay_at(relay: &str) -> Result<(String, u16), RelayError> {
    let bad = || RelayError::BadAddress(relay.to_owned());
    let (host, port) = relay.rsplit_once(':').ok_or_else(bad)?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Ok((host.to_owned(), port.parse().map_err(|_| bad())?))
}
