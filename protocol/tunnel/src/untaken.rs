//! A connection whose stream was asked for in the moment in which the other end stopped taking any.
//!
//! A stream is written at once, before the other end has agreed to it. One that is about to leave may never see it: the
//! last GOAWAY that it sends names the last stream it saw, and any later one may be asked for again elsewhere (RFC 9113,
//! section 6.8). So what an application says is kept until somebody has agreed, to be said again on another stream.

use std::{
    io::{self, Read as _},
    net::TcpStream as StdTcpStream,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use futures_util::FutureExt as _;
use tokio::net::TcpStream;

use crate::{copy::carry, ended::Copied, stream::Stream};

/// An application that says more than this before anybody agrees has to try again by itself if nobody does. Requests and
/// most of what is posted fit, and a laptop full of connections to a service that hangs does not fill its memory.
const KEPT_MAX_BYTES: usize = 64 << 10;

/// Many a request fits.
const FIRST_BYTES: usize = 4 << 10;

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
    /// Takes a connection that was just accepted and waits for nothing, with what its application has said by now: most speak
    /// at once, and what they say travels together with the wish for the stream. It is read before the runtime knows of the
    /// connection, which would wake its task once more for what is read already.
    pub fn accepted(mut tcp: StdTcpStream) -> io::Result<Self> {
        let mut room = [0; FIRST_BYTES];
        let said = match tcp.read(&mut room) {
            Ok(read) => room[..read].to_vec(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Vec::new(),
            Err(error) => return Err(error),
        };
        Ok(Self { tcp: TcpStream::from_std(tcp)?, said })
    }

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

    #[tokio::test]
    async fn what_an_application_said_by_then_is_said_with_the_wish() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let accepted = |says: &[u8]| {
            let mut application = StdTcpStream::connect(address).expect("connected");
            io::Write::write_all(&mut application, says).expect("taken");
            let (tcp, _) = listener.accept().expect("accepted");
            tcp.set_nonblocking(true).expect("set");
            Untaken::accepted(tcp).expect("open").said
        };
        assert_eq!(accepted(b"hello"), b"hello");
        assert_eq!(accepted(b""), b"");
        assert_eq!(accepted(&[7; FIRST_BYTES + 1]), [7; FIRST_BYTES]);
    }

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
