//! What a laptop asks of the cluster's DNS: `POST /v1/resolve`, for names of the Services that its grant covers.
//!
//! Not a resolver: the name is one of the cluster, and the answer is what the cluster's DNS said, as it said it.

use std::{fmt, str::FromStr};

use fairlead_model::{ServiceRef, SessionId};
use http::{HeaderMap, HeaderName, HeaderValue, Request};

use crate::open::{InvalidOpen, post, text, the_one};

pub const RESOLVE_PATH: &str = "/v1/resolve";
/// Longest answer that is passed on.
pub const RESOLVED_MAX_BYTES: usize = 4096;

const SESSION: HeaderName = HeaderName::from_static("fairlead-session");
const NAME: HeaderName = HeaderName::from_static("fairlead-name");
const RECORD: HeaderName = HeaderName::from_static("fairlead-record");

/// Below this a name of a Service has a port and a protocol, or a pod.
const LABELS_MAX: usize = 5;
const LABEL_MAX_BYTES: usize = 63;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is no name below a Service: `_port._tcp.service.namespace`, in lower case")]
pub struct InvalidClusterName;

/// A name at or below a Service, without the cluster's domain: `_sql._tcp.db.shop`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClusterName {
    text: String,
    service: ServiceRef,
}

impl ClusterName {
    /// Returns the Service that the name belongs to.
    #[must_use]
    pub const fn service(&self) -> &ServiceRef {
        &self.service
    }

    /// Returns its labels, from the left.
    pub fn labels(&self) -> impl Iterator<Item = &str> {
        self.text.split('.')
    }
}

impl FromStr for ClusterName {
    type Err = InvalidClusterName;

    fn from_str(text: &str) -> Result<Self, InvalidClusterName> {
        let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b);
        let is_label = |label: &&str| {
            (1..=LABEL_MAX_BYTES).contains(&label.len()) && label.bytes().all(is_plain)
        };
        let labels: Vec<_> = text.split('.').collect();
        let [.., service, namespace] = labels[..] else { return Err(InvalidClusterName) };
        if labels.len() > LABELS_MAX || !labels.iter().all(is_label) {
            return Err(InvalidClusterName);
        }
        let service =
            ServiceRef::parse_parts(namespace, service).map_err(|_| InvalidClusterName)?;
        Ok(Self { text: text.to_owned(), service })
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

/// The question for the records of one kind at one name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ResolveRequest {
    pub session: SessionId,
    pub name: ClusterName,
    /// The number of a record type, as DNS has it.
    pub record: u16,
}

impl ResolveRequest {
    #[must_use]
    pub fn to_head(&self) -> Request<()> {
        let mut head = post(RESOLVE_PATH);
        let headers = head.headers_mut();
        headers.insert(SESSION, text(&self.session));
        headers.insert(NAME, text(&self.name));
        headers.insert(RECORD, HeaderValue::from(self.record));
        head
    }

    pub fn parse(headers: &HeaderMap) -> Result<Self, InvalidOpen> {
        Ok(Self {
            session: the_one(headers, SESSION, "fairlead-session")?,
            name: the_one(headers, NAME, "fairlead-name")?,
            record: the_one(headers, RECORD, "fairlead-record")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_belongs_to_its_service() {
        for (text, service) in
            [("db.shop", "shop/db"), ("db-0.db.shop", "shop/db"), ("_sql._tcp.db.shop", "shop/db")]
        {
            let name: ClusterName = text.parse().expect(text);
            assert_eq!(
                (name.to_string(), name.service().to_string()),
                (text.into(), service.into())
            );
        }
        for bad in ["", "shop", "DB.shop", "db..shop", ".db.shop", "a.b.c.d.db.shop", "d b.shop"] {
            assert!(bad.parse::<ClusterName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_question_is_read_as_it_was_written() {
        let name = "_sql._tcp.db.shop".parse().expect("valid");
        let asked = ResolveRequest { session: SessionId::generate(), name, record: 33 };
        assert_eq!(ResolveRequest::parse(asked.to_head().headers()), Ok(asked));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic_and_what_it_takes_it_gives_back(text in ".{0,80}") {
            if let Ok(name) = text.parse::<ClusterName>() {
                prop_assert_eq!(name.to_string(), text);
            }
        }
    }
}
