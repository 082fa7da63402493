//! SOCKS 5, with a user and a password where the address has them.

use std::{io, net::IpAddr};

use fairlead_model::{ProxyKind, ProxyUrl, host_and_port};
use tokio::net::{TcpStream, lookup_host};
use tokio_socks::{Error, TargetAddr, tcp::Socks5Stream};

use super::ProxyError;
use crate::connection::Connection;

/// Asks the proxy at the other end of `tcp` for the way to `host:port`.
pub(super) async fn connect(
    proxy: &ProxyUrl,
    tcp: TcpStream,
    host: &str,
    port: u16,
) -> Result<Connection, ProxyError> {
    let target = target(proxy, host, port).await?;
    let opened = match proxy.credentials() {
        None => Socks5Stream::connect_with_socket(tcp, target).await,
        Some((user, password)) => {
            Socks5Stream::connect_with_password_and_socket(tcp, target, user, password).await
        }
    };
    match opened {
        Ok(socks) => Ok(Box::new(socks.into_inner())),
        Err(error) => Err(refusal(proxy, &host_and_port(host, port), error)),
    }
}

/// An address is one to both kinds; a name is looked up here or there.
async fn target(
    proxy: &ProxyUrl,
    host: &str,
    port: u16,
) -> Result<TargetAddr<'static>, ProxyError> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(TargetAddr::Ip((address, port).into()));
    }
    if proxy.kind() == ProxyKind::Socks5h {
        return Ok(TargetAddr::Domain(host.to_owned().into(), port));
    }
    let unknown = |source| ProxyError::UnknownName { host: host.to_owned(), source };
    let none = || io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    let mut found = lookup_host((host, port)).await.map_err(unknown)?;
    Ok(TargetAddr::Ip(found.next().ok_or_else(|| unknown(none()))?))
}

fn refusal(proxy: &ProxyUrl, target: &str, error: Error) -> ProxyError {
    match error {
        Error::Io(error) => ProxyError::cut(proxy, error),
        Error::PasswordAuthFailure(_)
        | Error::AuthorizationRequired
        | Error::NoAcceptableAuthMethods
        | Error::InvalidAuthValues(_) => ProxyError::credentials(proxy),
        Error::InvalidResponseVersion
        | Error::UnknownAuthMethod
        | Error::InvalidReservedByte
        | Error::UnknownAddressType => ProxyError::not_a_proxy(proxy),
        other => ProxyError::Refused {
            proxy: proxy.place(),
            target: target.to_owned(),
            answer: other.to_string().to_lowercase(),
        },
    }
}
