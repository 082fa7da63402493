//! What a carrier runs on.

use std::fmt;

use tokio::io::{AsyncRead, AsyncWrite};

/// The connection a carrier runs on.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Io for T {}

/// A connection to somebody, whatever it is made of.
pub type Connection = Box<dyn Io>;

impl fmt::Debug for dyn Io {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Io")
    }
}
