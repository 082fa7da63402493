//! Tickets: the single-use right to bring one half of a carrier to the relay.

use std::fmt;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

pub const TICKET_BYTES: usize = 32;

/// 256 random bits. Compared in constant time, and never shown.
#[derive(Clone)]
pub struct Ticket([u8; TICKET_BYTES]);

impl Ticket {
    /// Draws a new ticket.
    #[must_use]
    pub fn draw() -> Self {
        Self(rand::random())
    }

    #[must_use]
    pub const fn from_bytes(bytes: [u8; TICKET_BYTES]) -> Self {
        Self(bytes)
    }

    /// Reads a ticket out of a message's field; `None` when it has another length.
    #[must_use]
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// Returns the bytes for the holder to present. Never log them.
    #[must_use]
    pub const fn expose(&self) -> &[u8; TICKET_BYTES] {
        &self.0
    }

    /// Returns what the relay keeps in place of the ticket.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.0).into()
    }
}

impl PartialEq for Ticket {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Ticket {}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ticket(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tickets_are_equal_by_their_bytes_and_never_shown() {
        assert_eq!(Ticket::from_bytes([7; 32]), Ticket::from_slice(&[7; 32]).expect("32 bytes"));
        assert_ne!(Ticket::draw(), Ticket::draw());
        assert_eq!(Ticket::from_slice(&[7; 31]), None);
        assert_eq!(format!("{:?}", Ticket::draw()), "Ticket(…)");
    }
}
