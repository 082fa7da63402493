//! How it is carried: dialling hub and relay, carriers with TLS 1.3 end to end, streams inside them, keepalive, backoff.
//!
//! Knows neither users nor services nor policy. A carrier has a direction: the end that opens streams is the TLS client
//! and the HTTP/2 client ([`opener`]), the other end takes them ([`acceptor`]), whoever of the two dialled.

pub mod abortable;
pub mod acceptor;
pub mod backoff;
pub mod carrier;
pub mod connect;
pub mod connection;
pub mod copy;
pub mod datagrams;
pub mod ended;
mod half;
mod heard;
mod keepalive;
mod linger;
pub mod load;
pub mod opener;
#[cfg(test)]
mod pitfalls;
pub mod pool;
#[cfg(test)]
mod reference;
pub mod resets;
mod secure;
pub mod socket;
pub mod stream;
pub mod tls;
mod turn;
pub mod unread;
pub mod untaken;
pub mod websocket;
mod window;

pub use acceptor::{Acceptor, GrantPresented, Incoming, Questioned, StreamOffered};
pub use backoff::Backoff;
pub use carrier::{CarrierEnd, CarrierHandle, Driver, HandshakeError, NoAnswer};
pub use copy::both_ways;
pub use ended::{Copied, Ending};
pub use opener::{OpenFailed, Opener};
pub use stream::Stream;
pub use tls::{PeerExpectation, TlsIdentity};
pub use untaken::Untaken;

#[cfg(all(feature = "plain-for-tests", not(debug_assertions)))]
compile_error!(
    "`plain-for-tests` takes the encryption out of carriers: it is for debug builds of tests only"
);
