//! Hosts outside the cluster, by name and port: `db.example.net:5432`.
//!
//! Only names: what may be reached is decided by the name, and an address could be anybody's. None that belongs to the
//! cluster, to a laptop's own machine or to Fairlead: those are reached otherwise, or not at all.

use std::{fmt, net::IpAddr, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{Port, service::is_dns_label};

/// Longest name in DNS.
const NAME_MAX_BYTES: usize = 253;
/// What these and everything below them mean is said elsewhere.
const RESERVED: [&str; 4] = ["localhost", "svc", "cluster.local", "fairlead"];

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHost {
    #[error("`{text}` has no port: write `host:port`, for example `db.example.net:5432`")]
    NoPort { text: String },
    #[error("`{port}` is not a port (1 to 65535)")]
    Port { port: String },
    #[error("`{text}` is an address: name the host, since it is its name that is permitted")]
    Address { text: String },
    #[error("`{text}` is no full name: it needs at least one dot, as `db.example.net` has")]
    NoDot { text: String },
    #[error(
        "`{text}` is not a host's name: labels of a-z, 0-9 and `-`, in lower case, with dots between"
    )]
    Name { text: String },
    #[error(
        "`{text}` is no host outside the cluster: `{domain}` is reserved; a service is consumed as `namespace/service`"
    )]
    Reserved { text: String, domain: &'static str },
}

/// The full name of a host outside the cluster, in lower case and without a dot at its end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostName(String);

impl HostName {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Says whether the name is this domain or lies below it.
    #[must_use]
    pub fn is_in(&self, domain: &str) -> bool {
        self.0.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    }
}

impl FromStr for HostName {
    type Err = InvalidHost;

    fn from_str(text: &str) -> Result<Self, InvalidHost> {
        let named = || text.to_owned();
        let last = text.rsplit('.').next().unwrap_or_default();
        // Whatever ends in a number is read as an address by somebody: `127.1`, `0x7f.0x1`.
        let is_number = last.starts_with(|c: char| c.is_ascii_digit());
        if text.parse::<IpAddr>().is_ok() || text.starts_with('[') || is_number {
            return Err(InvalidHost::Address { text: named() });
        }
        if text.len() > NAME_MAX_BYTES || !text.split('.').all(is_dns_label) {
            return Err(InvalidHost::Name { text: named() });
        }
        let name = Self(named());
        if let Some(domain) = RESERVED.into_iter().find(|domain| name.is_in(domain)) {
            return Err(InvalidHost::Reserved { text: named(), domain });
        }
        if !text.contains('.') {
            return Err(InvalidHost::NoDot { text: named() });
        }
        Ok(name)
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl TryFrom<String> for HostName {
    type Error = InvalidHost;

    fn try_from(text: String) -> Result<Self, InvalidHost> {
        text.parse()
    }
}

impl From<HostName> for String {
    fn from(name: HostName) -> Self {
        name.0
    }
}

/// One TCP port of a host outside the cluster: what is permitted, or not.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ExternalHost {
    pub name: HostName,
    pub port: Port,
}

impl FromStr for ExternalHost {
    type Err = InvalidHost;

    fn from_str(text: &str) -> Result<Self, InvalidHost> {
        if text.parse::<IpAddr>().is_ok() {
            return Err(InvalidHost::Address { text: text.to_owned() });
        }
        let Some((name, port)) = text.rsplit_once(':') else {
            return Err(InvalidHost::NoPort { text: text.to_owned() });
        };
        let name = name.parse()?;
        let port = port.parse().map_err(|_| InvalidHost::Port { port: port.to_owned() })?;
        Ok(Self { name, port })
    }
}

impl fmt::Display for ExternalHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}:{}", self.name, self.port))
    }
}

impl TryFrom<String> for ExternalHost {
    type Error = InvalidHost;

    fn try_from(text: String) -> Result<Self, InvalidHost> {
        text.parse()
    }
}

impl From<ExternalHost> for String {
    fn from(host: ExternalHost) -> Self {
        host.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_written_as_it_was_read() {
        for text in ["db.example.net:5432", "a.b:1", "xn--bcher-kva.example:65535", "1.b-2.io:80"] {
            assert_eq!(text.parse::<ExternalHost>().expect(text).to_string(), text);
        }
    }

    #[test]
    fn what_is_no_host_outside_the_cluster_says_what_to_write() {
        for (text, expected) in [
            ("db.example.net", "has no port"),
            ("db.example.net:", "not a port"),
            ("db.example.net:0", "not a port"),
            ("db.example.net:65536", "not a port"),
            ("db.example.net:http", "not a port"),
            ("10.0.0.1:80", "is an address"),
            ("127.1:80", "is an address"),
            ("0x7f.0x1:80", "is an address"),
            ("[::1]:80", "is an address"),
            ("::1", "is an address"),
            ("db:5432", "no full name"),
            ("DB.example.net:5432", "in lower case"),
            ("db.example.net.:5432", "not a host's name"),
            ("db..net:5432", "not a host's name"),
            (".example.net:5432", "not a host's name"),
            ("*.example.net:5432", "not a host's name"),
            ("db_1.example.net:5432", "not a host's name"),
            ("localhost:80", "`localhost` is reserved"),
            ("x.localhost:80", "`localhost` is reserved"),
            ("cart.shop.svc:80", "`svc` is reserved"),
            ("cart.shop.svc.cluster.local:80", "`cluster.local` is reserved"),
            ("cart.shop.staging.fairlead:80", "`fairlead` is reserved"),
        ] {
            let error = text.parse::<ExternalHost>().expect_err(text).to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
        let long = format!("{}.net:1", ["a"; 130].join("."));
        long.parse::<ExternalHost>().expect_err("longer than a name can be");
        assert!("notlocalhost.example:1".parse::<ExternalHost>().is_ok());
        assert!("my.svcs:1".parse::<ExternalHost>().is_ok());
    }
}
