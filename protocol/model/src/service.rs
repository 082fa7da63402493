//! Services as Kubernetes names them: namespace, name, port.

use std::{fmt, num::NonZeroU16, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::HostName;

/// Longest DNS label (RFC 1123), which bounds namespaces and service names.
const LABEL_MAX_BYTES: usize = 63;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a {noun}: 1 to 63 of a-z, 0-9 and `-`, beginning and ending with a letter or digit"
)]
pub struct InvalidName {
    noun: &'static str,
    text: String,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a port: a number from 1 to 65535")]
pub struct InvalidPort {
    text: String,
}

pub(crate) fn is_dns_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    let alphanumeric = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    bytes.len() <= LABEL_MAX_BYTES
        && bytes.first().is_some_and(alphanumeric)
        && bytes.last().is_some_and(alphanumeric)
        && bytes.iter().all(|b| alphanumeric(b) || *b == b'-')
}

macro_rules! label {
    ($name:ident, $noun:literal) => {
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks `text` against RFC 1123's rule for a label.
            pub fn parse(text: impl Into<String>) -> Result<Self, InvalidName> {
                let text = text.into();
                if is_dns_label(&text) {
                    Ok(Self(text))
                } else {
                    Err(InvalidName { noun: $noun, text })
                }
            }

            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, InvalidName> {
                Self::parse(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;

            fn try_from(text: String) -> Result<Self, InvalidName> {
                Self::parse(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }
    };
}

label!(Namespace, "namespace");
label!(ServiceName, "service name");
label!(TeamspaceLabel, "teamspace name");
// The name by which a headless Service has one of its pods: the pod's host name, which a StatefulSet gives to each.
label!(PodName, "pod's name");

/// One Service of a teamspace, written `namespace/name`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ServiceRef {
    pub namespace: Namespace,
    pub name: ServiceName,
}

impl ServiceRef {
    #[must_use]
    pub const fn new(namespace: Namespace, name: ServiceName) -> Self {
        Self { namespace, name }
    }

    /// Checks both halves; for values that arrive apart.
    pub fn parse_parts(namespace: &str, name: &str) -> Result<Self, InvalidName> {
        Ok(Self { namespace: Namespace::parse(namespace)?, name: ServiceName::parse(name)? })
    }
}

impl fmt::Display for ServiceRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}/{}", self.namespace, self.name))
    }
}

impl FromStr for ServiceRef {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let Some((namespace, name)) = text.split_once('/') else {
            return Err(InvalidName {
                noun: "service (write `namespace/name`)",
                text: text.to_owned(),
            });
        };
        Self::parse_parts(namespace, name)
    }
}

/// A TCP or UDP port; never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Port(NonZeroU16);

impl Port {
    #[must_use]
    pub const fn new(number: u16) -> Option<Self> {
        match NonZeroU16::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    #[must_use]
    pub const fn get(self) -> u16 {
        self.0.get()
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Port {
    type Err = InvalidPort;

    fn from_str(text: &str) -> Result<Self, InvalidPort> {
        text.parse().map(Self).map_err(|_| InvalidPort { text: text.to_owned() })
    }
}

impl TryFrom<u32> for Port {
    type Error = InvalidPort;

    fn try_from(number: u32) -> Result<Self, InvalidPort> {
        u16::try_from(number)
            .ok()
            .and_then(Self::new)
            .ok_or_else(|| InvalidPort { text: number.to_string() })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    Tcp,
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        })
    }
}

/// One port of a Service with what is spoken there, written `80` or `53/udp`: a Service may have 53 of either kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "WrittenPort", into = "WrittenPort")]
pub struct ServicePort {
    pub port: Port,
    pub protocol: Protocol,
}

impl ServicePort {
    #[must_use]
    pub const fn tcp(port: Port) -> Self {
        Self { port, protocol: Protocol::Tcp }
    }

    #[must_use]
    pub const fn udp(port: Port) -> Self {
        Self { port, protocol: Protocol::Udp }
    }
}

impl fmt::Display for ServicePort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.protocol {
            Protocol::Tcp => write!(f, "{}", self.port),
            Protocol::Udp => write!(f, "{}/udp", self.port),
        }
    }
}

impl FromStr for ServicePort {
    type Err = InvalidPort;

    fn from_str(text: &str) -> Result<Self, InvalidPort> {
        match text.strip_suffix("/udp") {
            Some(number) => number.parse().map(Self::udp),
            None => text.parse().map(Self::tcp),
        }
    }
}

/// A TCP port is a number, as everywhere; one of UDP is text.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum WrittenPort {
    Tcp(Port),
    Other(String),
}

impl TryFrom<WrittenPort> for ServicePort {
    type Error = InvalidPort;

    fn try_from(written: WrittenPort) -> Result<Self, InvalidPort> {
        match written {
            WrittenPort::Tcp(port) => Ok(Self::tcp(port)),
            WrittenPort::Other(text) => text.parse(),
        }
    }
}

impl From<ServicePort> for WrittenPort {
    fn from(port: ServicePort) -> Self {
        match port.protocol {
            Protocol::Tcp => Self::Tcp(port.port),
            Protocol::Udp => Self::Other(port.to_string()),
        }
    }
}

/// Who is called.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Callee {
    /// A Service, or one pod of a headless one.
    InCluster {
        service: ServiceRef,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pod: Option<PodName>,
    },
    /// A host that the cluster reaches and that is no part of it.
    Outside { host: HostName },
}

impl Callee {
    #[must_use]
    pub const fn pod_of(service: ServiceRef, pod: PodName) -> Self {
        Self::InCluster { service, pod: Some(pod) }
    }

    #[must_use]
    pub const fn service(&self) -> Option<&ServiceRef> {
        match self {
            Self::InCluster { service, .. } => Some(service),
            Self::Outside { .. } => None,
        }
    }

    #[must_use]
    pub const fn is_pod(&self) -> bool {
        matches!(self, Self::InCluster { pod: Some(_), .. })
    }

    /// Returns the shortest name that says who it is: `db.shop`, `db-0.db.shop`, or a host's own.
    #[must_use]
    pub fn dns_name(&self) -> String {
        match self {
            Self::InCluster { service, pod } => {
                format!("{}.{}", within_namespace(service, pod.as_ref()), service.namespace)
            }
            Self::Outside { host } => host.to_string(),
        }
    }
}

/// Returns `db`, or `db-0.db`.
fn within_namespace(service: &ServiceRef, pod: Option<&PodName>) -> String {
    match pod {
        Some(pod) => format!("{pod}.{}", service.name),
        None => service.name.to_string(),
    }
}

impl From<ServiceRef> for Callee {
    fn from(service: ServiceRef) -> Self {
        Self::InCluster { service, pod: None }
    }
}

impl From<HostName> for Callee {
    fn from(host: HostName) -> Self {
        Self::Outside { host }
    }
}

impl fmt::Display for Callee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InCluster { service, pod } => {
                let name = within_namespace(service, pod.as_ref());
                f.pad(&format!("{}/{name}", service.namespace))
            }
            Self::Outside { host } => f.pad(host.as_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_follows_rfc_1123() {
        for good in ["a", "shop", "a-b", "0a", &"a".repeat(63)] {
            assert!(ServiceName::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a_b", "ä", "a/b", &"a".repeat(64)] {
            assert!(ServiceName::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_service_is_namespace_and_name() {
        let cart: ServiceRef = "shop/cart".parse().expect("valid");
        assert_eq!(cart.to_string(), "shop/cart");
        let error = "cart".parse::<ServiceRef>().expect_err("no namespace");
        assert!(error.to_string().contains("namespace/name"), "{error}");
    }

    #[test]
    fn port_zero_is_no_port() {
        assert!("0".parse::<Port>().is_err());
        assert!(Port::try_from(65_536_u32).is_err());
        assert_eq!("80".parse::<Port>().expect("valid").get(), 80);
    }

    #[test]
    fn a_name_that_is_not_valid_cannot_be_deserialized() {
        assert!(serde_json::from_str::<Namespace>("\"UPPER\"").is_err());
    }

    #[test]
    fn a_port_of_udp_is_told_from_one_of_tcp() {
        let both = vec![
            ServicePort::tcp("53".parse().expect("a port")),
            ServicePort::udp("53".parse().expect("a port")),
        ];
        let text = serde_json::to_string(&both).expect("written");
        assert_eq!(text, r#"[53,"53/udp"]"#);
        assert_eq!(serde_json::from_str::<Vec<ServicePort>>(&text).expect("read"), both);
        for bad in ["0", "\"0/udp\"", "\"53/sctp\"", "70000"] {
            assert!(serde_json::from_str::<ServicePort>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn one_pod_is_called_within_its_service() {
        let db: ServiceRef = "shop/db".parse().expect("valid");
        let pod = Callee::pod_of(db.clone(), "db-0".parse().expect("valid"));
        assert_eq!(
            (pod.to_string(), Callee::from(db).to_string()),
            ("shop/db-0.db".to_owned(), "shop/db".to_owned())
        );
        assert_eq!(pod.dns_name(), "db-0.db.shop");
    }

    #[test]
    fn whoever_is_called_is_read_as_they_were_written() {
        let db: ServiceRef = "shop/db".parse().expect("valid");
        let pod = Callee::pod_of(db.clone(), "db-0".parse().expect("valid"));
        let host = Callee::from("db.example.net".parse::<HostName>().expect("valid"));
        for (callee, text) in [
            (db.into(), r#"{"service":{"namespace":"shop","name":"db"}}"#),
            (pod, r#"{"service":{"namespace":"shop","name":"db"},"pod":"db-0"}"#),
            (host, r#"{"host":"db.example.net"}"#),
        ] {
            assert_eq!(serde_json::to_string(&callee).expect("written"), text);
            assert_eq!(serde_json::from_str::<Callee>(text).expect("read"), callee);
        }
        assert!(serde_json::from_str::<Callee>(r#"{"host":"localhost"}"#).is_err());
    }
}
