//! The first 40 bytes on the relay's raw port, and the relay's answers of one byte each. Everything after it is spliced unread.
//!
//! ```text
//! 0      4        5     6         8                40
//! | FLRY | version| side| 0    0  | ticket          |
//! ```

use crate::ticket::{TICKET_BYTES, Ticket};

pub const PREFACE_BYTES: usize = 40;
const MAGIC: [u8; 4] = *b"FLRY";
const VERSION: u8 = 1;

/// Which end of a carrier a ticket belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    Laptop,
    Cluster,
}

impl Side {
    const fn code(self) -> u8 {
        match self {
            Self::Laptop => 1,
            Self::Cluster => 2,
        }
    }

    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Laptop => Self::Cluster,
            Self::Cluster => Self::Laptop,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPreface {
    #[error("this is not the beginning of a carrier")]
    Magic,
    #[error("version {0} of the relay's preface is not known here")]
    Version(u8),
    #[error("{0} is no side of a carrier")]
    Side(u8),
    #[error("reserved bytes are in use")]
    Reserved,
}

/// What a dialler says to the relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preface {
    pub side: Side,
    pub ticket: Ticket,
}

impl Preface {
    #[must_use]
    pub fn encode(&self) -> [u8; PREFACE_BYTES] {
        let mut bytes = [0; PREFACE_BYTES];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4] = VERSION;
        bytes[5] = self.side.code();
        bytes[8..].copy_from_slice(self.ticket.expose());
        bytes
    }

    pub fn parse(bytes: &[u8; PREFACE_BYTES]) -> Result<Self, InvalidPreface> {
        let [m0, m1, m2, m3, version, side, reserved @ .., _, _] =
            *bytes.first_chunk::<10>().expect("a preface is longer than its head");
        if [m0, m1, m2, m3] != MAGIC {
            return Err(InvalidPreface::Magic);
        }
        if version != VERSION {
            return Err(InvalidPreface::Version(version));
        }
        let side = match side {
            1 => Side::Laptop,
            2 => Side::Cluster,
            other => return Err(InvalidPreface::Side(other)),
        };
        if reserved != [0, 0] {
            return Err(InvalidPreface::Reserved);
        }
        let ticket = bytes.last_chunk::<TICKET_BYTES>().expect("a preface ends with a ticket");
        Ok(Self { side, ticket: Ticket::from_bytes(*ticket) })
    }
}

/// The relay's answer. A refusal never says why: to a stranger all bad tickets look alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Both halves are here; what follows comes from the other one.
    Paired,
    Refused,
    /// The ticket is good and the other half is not here yet; one of the other two follows. It is said at once, so that
    /// whoever hears nothing knows that it is not the relay who keeps silent.
    Waiting,
}

impl Answer {
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Paired => 0,
            Self::Refused => 1,
            Self::Waiting => 2,
        }
    }

    /// Reads an answer; `None` when it is none.
    #[must_use]
    pub const fn parse(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Paired),
            1 => Some(Self::Refused),
            2 => Some(Self::Waiting),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_preface_is_these_bytes() {
        let ticket = Ticket::from_bytes(std::array::from_fn(|i| i as u8));
        let golden = b"FLRY\x01\x02\0\0\
            \x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\
            \x10\x11\x12\x13\x14\x15\x16\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f";
        assert_eq!(&Preface { side: Side::Cluster, ticket: ticket.clone() }.encode(), golden);
        assert_eq!(Preface { side: Side::Laptop, ticket }.encode()[5], 1);
        let codes = [Answer::Paired, Answer::Refused, Answer::Waiting].map(Answer::code);
        assert_eq!(codes, [0, 1, 2]);
    }

    #[test]
    fn each_fault_is_named() {
        let good = Preface { side: Side::Laptop, ticket: Ticket::from_bytes([9; 32]) }.encode();
        let with = |at: usize, byte: u8| {
            let mut bytes = good;
            bytes[at] = byte;
            Preface::parse(&bytes)
        };
        assert_eq!(with(0, b'G'), Err(InvalidPreface::Magic));
        assert_eq!(with(4, 2), Err(InvalidPreface::Version(2)));
        assert_eq!(with(5, 0), Err(InvalidPreface::Side(0)));
        assert_eq!(with(6, 1), Err(InvalidPreface::Reserved));
        assert_eq!(with(7, 1), Err(InvalidPreface::Reserved));
    }

    proptest! {
        #[test]
        fn whatever_is_accepted_is_encoded_as_it_was_read(bytes in prop::array::uniform32(any::<u8>()), head in prop::array::uniform8(0_u8..3)) {
            let mut all = [0; PREFACE_BYTES];
            all[..4].copy_from_slice(b"FLRY");
            all[4..8].copy_from_slice(&head[..4]);
            all[8..].copy_from_slice(&bytes);
            if let Ok(preface) = Preface::parse(&all) {
                prop_assert_eq!(preface.encode(), all);
            }
        }

        #[test]
        fn no_bytes_make_the_parser_panic(a in prop::array::uniform32(any::<u8>()), b in prop::array::uniform8(any::<u8>())) {
            let mut all = [0; PREFACE_BYTES];
            all[..32].copy_from_slice(&a);
            all[32..].copy_from_slice(&b);
            prop_assert!(Preface::parse(&all).is_err() || all.starts_with(b"FLRY"));
        }
    }
}
