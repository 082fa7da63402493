//! A connection whose stream was asked for in the moment in which the other end stopped taking any.
//!
//! A stream is written at once, before the other end has agreed to it. One that is about to leave may never see it: the
//! last GOAWAY that it sends names the last stream it saw, and any later one may be asked for again elsewhere (RFC 9113,
//! section 6.8). So what an application says is kept until somebody has agreed, to be said again on another stream.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::FutureExt as _;
use tokio::net::TcpStream;

use crate::{copy::carry, ended::Copied, stream::Stream};

/// An application that says more than this before anybody agrees has to try again by itself if nobody does. Requests and
/// most of what is posted fit, and a laptop full of connections to a service that hangs does not fill its memory.
const KEPT_MAX_BYTES: usize = 64 << 10;

/// A connection that nobody has agreed to carry yet.
#[derive(Debug)]
pub struct Untaken {
    tcp: TcpStream,
    said: Vec<u8>,
}

impl From<TcpStream> for Untaken {
    fn from(tcp: TcpStream) -> Self {
        Self { tcp, said: Vec::new() }
    }
}

impl Untaken {
    /// Returns the application's connection.
    #[must_use]
    pub const fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    /// Moves bytes both ways until both directions have ended or one of the ends aborts, and gives the connection back
    /// if the other end has never seen this stream. That end takes no further ones: another carrier has to be chosen.
    pub fn over(self, stream: Stream) -> impl Future<Output = Result<Copied, Self>> + Send {
        let carried = carry(stream, self.tcp, Said::again(self.said));
        carried.map(|(copied, untaken)| match untaken {
            Some((tcp, said)) => Err(Self { tcp, said }),
            None => Ok(copied),
        })
    }
}

/// What an application has said, until somebody has agreed to hear it, or until it is too much.
#[derive(Debug)]
pub(crate) struct Said(Mutex<Option<Vec<u8>>>);

impl Said {
    /// Nothing is kept: whoever is at the other end has agreed already.
    pub(crate) const fn to_somebody() -> Self {
        Self(Mutex::new(None))
    }

    const fn again(said: Vec<u8>) -> Self {
        Self(Mutex::new(Some(said)))
    }

    /// Returns what has to be said first.
    pub(crate) fn first(&self) -> Bytes {
        self.lock().as_deref().map(Bytes::copy_from_slice).unwrap_or_default()
    }

    /// Says whether nobody has agreed yet, and all that was said is known.
    pub(crate) fn is_kept(&self) -> bool {
        self.lock().is_some()
    }

    /// Keeps what is said next.
    pub(crate) fn keep(&self, bytes: &[u8]) {
        let mut said = self.lock();
        if let Some(kept) = said.as_mut() {
            if kept.len() + bytes.len() <= KEPT_MAX_BYTES {
                kept.extend_from_slice(bytes);
            } else {
                *said = None;
            }
        }
    }

    /// Somebody has agreed: nothing has to be said again.
    pub(crate) fn forget(&self) {
        *self.lock() = None;
    }

    /// Returns what has to be said again, if all of it is still known.
    pub(crate) fn kept(self) -> Option<Vec<u8>> {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_is_said_again_in_its_order() {
        let said = Said::again(b"one".to_vec());
        assert_eq!(said.first(), "one");
        said.keep(b", two");
        assert_eq!(said.kept().as_deref(), Some(b"one, two".as_slice()));
    }

    #[test]
    fn what_was_said_to_somebody_or_is_too_much_is_not_kept() {
        let said = Said::again(Vec::new());
        said.keep(&[0; KEPT_MAX_BYTES]);
        assert_eq!(said.first().len(), KEPT_MAX_BYTES);
        said.keep(&[0]);
        said.keep(b"later");
        assert_eq!(said.kept(), None, "a part of it would be another request");

        let said = Said::again(b"one".to_vec());
        said.forget();
        said.keep(b"two");
        assert_eq!(said.kept(), None);
    }
}
