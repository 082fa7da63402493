//! How the copying of a connection ended, and what the log says of it: the application only sees a reset.

use std::{fmt, io};

use fairlead_wire::open::Refused;

use crate::resets;

/// How a copy ended.
#[derive(Debug)]
pub enum Ending {
    /// Both directions ended in good order.
    Clean,
    /// The application at the TCP connection aborted; the other end of the stream was told.
    SocketAborted(io::Error),
    /// The other end of the stream aborted, or the carrier broke; the application saw a reset.
    StreamAborted(io::Error),
    /// The other end did not agree to open the stream; the application saw a reset.
    Refused(Refused),
    /// Half closed, and nothing moved any more.
    Lingered,
}

#[derive(Debug)]
pub struct Copied {
    pub up: u64,
    pub down: u64,
    pub ending: Ending,
}

impl Ending {
    pub(crate) fn of_stream(error: io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<Refused>()) {
            Some(refused) => Self::Refused(refused.clone()),
            None => Self::StreamAborted(error),
        }
    }
}

impl Copied {
    /// Has the log say why the application at the TCP connection saw a reset, if it did: it had connected to `whom`.
    pub fn tell_reset(&self, whom: &dyn fmt::Display) {
        let (reason, why): (_, &dyn fmt::Display) = match &self.ending {
            Ending::Clean | Ending::SocketAborted(_) => return,
            Ending::StreamAborted(error) => ("the other end of its stream aborted", error),
            Ending::Refused(refused) => ("the other end refused", refused),
            Ending::Lingered => ("it was half closed", &"nothing moved for long"),
        };
        let (up, down) = (self.up, self.down);
        resets::tell(whom, reason, &format_args!("{why} ({up} bytes up, {down} down)"));
    }

    /// Has the log say that `whom`, to whom the TCP connection was made, aborted it: the other end of the stream saw a
    /// reset.
    pub fn tell_abort_of(&self, whom: &dyn fmt::Display) {
        if let Ending::SocketAborted(error) = &self.ending {
            resets::tell(whom, "whoever was called aborted it", error);
        }
    }
}
