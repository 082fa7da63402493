//! Dialling out: to the relay for a carrier, to the hub for a link.
//!
//! Errors tell apart what a person must do something different about: nobody answers there, the certificate is not
//! trusted, it is made out to another name, a clock is wrong.

mod hub;
mod relay;
mod trust;

use std::{io, time::Duration};

use fairlead_model::timers::CONNECT;
use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout,
};

pub use hub::{HubChannel, HubError, dial_hub};
pub use relay::{RelayError, dial_relay};
pub use trust::{HubTrust, TrustError, why_not_trusted};

use crate::socket::tune_for_wan;

/// Connects to the first address of `host:port` that answers.
async fn dial_tcp(host_and_port: &str) -> io::Result<TcpStream> {
    timeout(CONNECT, dial_each(host_and_port)).await.map_err(|_| timed_out(CONNECT))?
}

async fn dial_each(host_and_port: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in lookup_host(host_and_port).await? {
        match TcpStream::connect(address).await {
            Ok(tcp) => {
                tune_for_wan(&tcp)?;
                return Ok(tcp);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn timed_out(after: Duration) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {} s", after.as_secs()))
}
