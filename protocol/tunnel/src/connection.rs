//! What a carrier runs on.

use tokio::io::{AsyncRead, AsyncWrite};

/// The connection a carrier runs on.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Io for T {}

/// A connection to somebody, whatever it is made of.
pub type Connection = Box<dyn Io>;
