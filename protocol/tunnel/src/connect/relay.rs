//! One half of a carrier, brought to the relay.

use std::io;

use fairlead_model::timers::{PREFACE, TICKET_LIFE};
use fairlead_wire::{
    preface::{Answer, Preface, Side},
    ticket::Ticket,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::dial_tcp;

#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    #[error("the relay at {relay} cannot be reached")]
    Unreachable { relay: String, source: io::Error },
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
pub async fn dial_relay(relay: &str, ticket: &Ticket, side: Side) -> Result<TcpStream, RelayError> {
    let unreachable = |source| RelayError::Unreachable { relay: relay.to_owned(), source };
    let mut tcp = dial_tcp(relay).await.map_err(unreachable)?;
    let preface = Preface { side, ticket: ticket.clone() };
    tcp.write_all(&preface.encode()).await.map_err(unreachable)?;
    let answer = timeout(TICKET_LIFE + PREFACE, tcp.read_u8())
        .await
        .map_err(|_| RelayError::TimedOut)?
        .map_err(unreachable)?;
    match Answer::parse(answer) {
        Some(Answer::Paired) => Ok(tcp),
        Some(Answer::Refused) => Err(RelayError::Refused),
        None => Err(RelayError::NotARelay { relay: relay.to_owned() }),
    }
}
