//! What is said inside a carrier: `POST /v1/open` begins a stream to a service, `POST /v1/grant` presents a grant.
//!
//! A wish that says more than a Service and a TCP port goes to `/v2/open`: an end that has only `/v1/open` refuses it,
//! where it would otherwise overlook what is new and connect to something else.
//!
//! Only the heads are made and read here; frames and flow control belong to `fairlead-tunnel`.

use std::{fmt, sync::LazyLock, time::Duration};

use fairlead_model::{
    Callee, HostName, PodName, Port, Protocol, ServicePort, ServiceRef, SessionId,
};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri,
    uri::{Parts, PathAndQuery},
};

pub const OPEN_PATH: &str = "/v1/open";
/// Where a wish goes that names a pod, UDP or a host outside the cluster.
pub const OPEN_MORE_PATH: &str = "/v2/open";
pub const GRANT_PATH: &str = "/v1/grant";
/// Longest grant that an agent reads, and that the hub signs. It holds the 6,000 services that a laptop takes at most,
/// even when their names are as long as Kubernetes lets them be.
pub const GRANT_MAX_BYTES: usize = 1536 * 1024;

/// Nobody looks this up: a carrier leads to one peer.
const ROOT: &str = "https://fairlead.internal/";
const SESSION: HeaderName = HeaderName::from_static("fairlead-session");
const SERVICE: HeaderName = HeaderName::from_static("fairlead-service");
const PORT: HeaderName = HeaderName::from_static("fairlead-port");
const POD: HeaderName = HeaderName::from_static("fairlead-pod");
const HOST: HeaderName = HeaderName::from_static("fairlead-host");
const PROTOCOL: HeaderName = HeaderName::from_static("fairlead-protocol");
const UDP: &str = "udp";
const PROBE: HeaderName = HeaderName::from_static("fairlead-probe");
const CONNECT: HeaderName = HeaderName::from_static("fairlead-connect-us");
const REASON: HeaderName = HeaderName::from_static("fairlead-reason");
const REASON_MAX_BYTES: usize = 300;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidOpen {
    #[error("`{0}` is missing, not readable, or there more than once")]
    Header(&'static str),
}

/// The wish for one stream: to which port of whom, on behalf of which session. Over a stream to a UDP port go datagrams
/// (`datagram.rs`), over one to a TCP port bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OpenRequest {
    pub session: SessionId,
    pub callee: Callee,
    /// The Service's port, in both directions, or the host's.
    pub port: ServicePort,
    /// Only to see whether the way is open: the far end connects, says so, and closes.
    pub probe: bool,
}

impl OpenRequest {
    /// Makes the wish for a connection to a TCP port of a Service.
    #[must_use]
    pub const fn tcp(session: SessionId, service: ServiceRef, port: Port) -> Self {
        let callee = Callee::InCluster { service, pod: None };
        Self { session, callee, port: ServicePort::tcp(port), probe: false }
    }

    #[must_use]
    pub fn to_head(&self) -> Request<()> {
        let is_service = matches!(self.callee, Callee::InCluster { pod: None, .. });
        let is_plain = is_service && self.port.protocol == Protocol::Tcp;
        let mut head = post(if is_plain { OPEN_PATH } else { OPEN_MORE_PATH });
        let headers = head.headers_mut();
        headers.insert(SESSION, text(&self.session));
        match &self.callee {
            Callee::InCluster { service, pod } => {
                headers.insert(SERVICE, text(service));
                pod.as_ref().map(|pod| headers.insert(POD, text(pod)));
            }
            Callee::Outside { host } => {
                headers.insert(HOST, text(host));
            }
        }
        headers.insert(PORT, text(&self.port.port));
        if self.port.protocol == Protocol::Udp {
            headers.insert(PROTOCOL, HeaderValue::from_static(UDP));
        }
        if self.probe {
            headers.insert(PROBE, HeaderValue::from_static("1"));
        }
        head
    }

    pub fn parse(headers: &HeaderMap) -> Result<Self, InvalidOpen> {
        let protocol = match headers.get(PROTOCOL) {
            None => Protocol::Tcp,
            Some(value) if value == UDP => Protocol::Udp,
            Some(_) => return Err(InvalidOpen::Header("fairlead-protocol")),
        };
        let port = the_one(headers, PORT, "fairlead-port")?;
        Ok(Self {
            session: the_one(headers, SESSION, "fairlead-session")?,
            callee: callee(headers)?,
            port: ServicePort { port, protocol },
            probe: headers.contains_key(PROBE),
        })
    }
}

/// Whoever names a host names neither a Service nor a pod.
fn callee(headers: &HeaderMap) -> Result<Callee, InvalidOpen> {
    if headers.contains_key(HOST) {
        if headers.contains_key(SERVICE) || headers.contains_key(POD) {
            return Err(InvalidOpen::Header("fairlead-host"));
        }
        return Ok(the_one::<HostName>(headers, HOST, "fairlead-host")?.into());
    }
    let service = the_one(headers, SERVICE, "fairlead-service")?;
    let pod = if headers.contains_key(POD) {
        Some(the_one::<PodName>(headers, POD, "fairlead-pod")?)
    } else {
        None
    };
    Ok(Callee::InCluster { service, pod })
}

/// The far end's agreement to open a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// How long its own connection to the service took; said of probes.
    pub connected_in: Option<Duration>,
}

impl Opened {
    #[must_use]
    pub fn to_head(self) -> Response<()> {
        let mut head = Response::new(());
        if let Some(connected_in) = self.connected_in {
            head.headers_mut().insert(CONNECT, text(&connected_in.as_micros()));
        }
        head
    }

    /// Reads an agreement; what is not readable was not said.
    #[must_use]
    pub fn from_head(head: &Response<impl Sized>) -> Self {
        let said = head.headers().get(CONNECT).and_then(|value| value.to_str().ok());
        let us = said.and_then(|text| text.parse().ok());
        Self { connected_in: us.map(Duration::from_micros) }
    }
}

/// Makes the head under which a grant is presented.
#[must_use]
pub fn grant_head() -> Request<()> {
    post(GRANT_PATH)
}

/// Why the far end did not open a stream, as a status of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// No grant, or one that does not cover this. 403.
    NotAllowed,
    /// No such service, or no such port of it. 404.
    NotFound,
    /// Nothing answers there. 502.
    Unreachable,
    /// Not now: too many streams, or the far end is stopping. 503.
    Unavailable,
}

impl Refusal {
    #[must_use]
    pub const fn status(self) -> StatusCode {
        match self {
            Self::NotAllowed => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Unreachable => StatusCode::BAD_GATEWAY,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// Reads a status; what is not known here counts as unreachable.
    #[must_use]
    pub fn from_status(status: StatusCode) -> Self {
        match status {
            StatusCode::FORBIDDEN => Self::NotAllowed,
            StatusCode::NOT_FOUND => Self::NotFound,
            StatusCode::SERVICE_UNAVAILABLE => Self::Unavailable,
            _ => Self::Unreachable,
        }
    }
}

/// The refusal of a stream or a grant, with the words of the far end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Refused {
    pub refusal: Refusal,
    pub reason: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.reason.is_empty() {
            write!(f, "refused by the far end ({})", self.refusal.status().as_u16())
        } else {
            f.write_str(&self.reason)
        }
    }
}

impl Refused {
    pub fn new(refusal: Refusal, reason: impl Into<String>) -> Self {
        Self { refusal, reason: reason.into() }
    }

    #[must_use]
    pub fn to_head(&self) -> Response<()> {
        let mut head = Response::new(());
        *head.status_mut() = self.refusal.status();
        head.headers_mut().insert(REASON, readable(&self.reason));
        head
    }

    #[must_use]
    pub fn from_head(head: &Response<impl Sized>) -> Self {
        let reason = head.headers().get(REASON).and_then(|value| value.to_str().ok());
        Self::new(Refusal::from_status(head.status()), reason.unwrap_or_default())
    }
}

pub(crate) fn post(path: &'static str) -> Request<()> {
    // The parts are read once: a laptop makes one of these for each connection.
    static HERE: LazyLock<Parts> = LazyLock::new(|| Uri::from_static(ROOT).into_parts());
    let mut head = Request::new(());
    *head.method_mut() = Method::POST;
    let mut parts = Parts::default();
    (parts.scheme, parts.authority) = (HERE.scheme.clone(), HERE.authority.clone());
    parts.path_and_query = Some(PathAndQuery::from_static(path));
    *head.uri_mut() = Uri::from_parts(parts).expect("the parts of this URI are constants");
    head
}

pub(crate) fn text(value: &impl fmt::Display) -> HeaderValue {
    HeaderValue::try_from(value.to_string()).expect("ids, names and ports are plain ASCII")
}

/// Keeps what a header may carry and a person can read, and not too much of it.
fn readable(reason: &str) -> HeaderValue {
    let plain: String = reason
        .chars()
        .map(|c| if c == ' ' || c.is_ascii_graphic() { c } else { '?' })
        .take(REASON_MAX_BYTES)
        .collect();
    HeaderValue::try_from(plain).expect("printable ASCII fits a header")
}

pub(crate) fn the_one<T: std::str::FromStr>(
    headers: &HeaderMap,
    name: HeaderName,
    shown: &'static str,
) -> Result<T, InvalidOpen> {
    let mut values = headers.get_all(name).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(InvalidOpen::Header(shown));
    };
    value.to_str().ok().and_then(|t| t.parse().ok()).ok_or(InvalidOpen::Header(shown))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wish(probe: bool) -> OpenRequest {
        let cart = "shop/cart".parse().expect("valid");
        let port = Port::new(80).expect("not 0");
        OpenRequest { probe, ..OpenRequest::tcp(SessionId::generate(), cart, port) }
    }

    #[test]
    fn a_wish_is_read_as_it_was_written() {
        for probe in [false, true] {
            let wish = wish(probe);
            let head = wish.to_head();
            assert_eq!(head.uri().path(), OPEN_PATH);
            assert_eq!(OpenRequest::parse(head.headers()), Ok(wish));
        }
    }

    #[test]
    fn what_an_earlier_version_would_overlook_is_asked_elsewhere() {
        let plain = wish(false);
        let udp = OpenRequest { port: ServicePort::udp(plain.port.port), ..plain.clone() };
        let service = plain.callee.service().expect("a service").clone();
        let pod = Callee::pod_of(service, PodName::parse("db-0").expect("valid"));
        let pod = OpenRequest { callee: pod, ..plain };
        let host: HostName = "db.example.net".parse().expect("valid");
        let host = OpenRequest { callee: host.into(), ..plain };
        for wish in [udp, pod, host] {
            let head = wish.to_head();
            assert_eq!(head.uri().path(), OPEN_MORE_PATH);
            assert_eq!(OpenRequest::parse(head.headers()), Ok(wish));
        }
    }

    #[test]
    fn a_header_that_is_missing_doubled_or_wrong_is_named() {
        let head = wish(false).to_head();
        let mut missing = head.headers().clone();
        missing.remove(PORT);
        let mut doubled = head.headers().clone();
        doubled.append(SERVICE, HeaderValue::from_static("shop/payment"));
        let mut wrong = head.headers().clone();
        wrong.insert(SESSION, HeaderValue::from_static("1"));
        for (headers, name) in
            [(missing, "fairlead-port"), (doubled, "fairlead-service"), (wrong, "fairlead-session")]
        {
            assert_eq!(OpenRequest::parse(&headers), Err(InvalidOpen::Header(name)));
        }
    }

    #[test]
    fn whoever_names_a_host_and_a_service_names_nobody() {
        for (name, value) in [(SERVICE, "shop/cart"), (POD, "db-0")] {
            let host: HostName = "db.example.net".parse().expect("valid");
            let wish = OpenRequest { callee: host.into(), ..wish(false) };
            let mut headers = wish.to_head().headers().clone();
            headers.insert(name, HeaderValue::from_static(value));
            assert_eq!(OpenRequest::parse(&headers), Err(InvalidOpen::Header("fairlead-host")));
        }
    }

    #[test]
    fn an_agreement_is_read_as_it_was_written_and_what_is_not_readable_was_not_said() {
        for connected_in in [None, Some(Duration::from_micros(1_234))] {
            let opened = Opened { connected_in };
            assert_eq!(Opened::from_head(&opened.to_head()), opened);
        }
        for garbage in [&b"soon"[..], b"-1", b"1.5", b"\xff", b"99999999999999999999999"] {
            let mut head = Opened::default().to_head();
            head.headers_mut().insert(CONNECT, HeaderValue::from_bytes(garbage).expect("sent"));
            assert_eq!(Opened::from_head(&head), Opened::default(), "{garbage:?}");
        }
    }

    #[test]
    fn a_refusal_is_read_as_it_was_written() {
        for refusal in
            [Refusal::NotAllowed, Refusal::NotFound, Refusal::Unreachable, Refusal::Unavailable]
        {
            let refused = Refused::new(refusal, "no grant covers shop/payment:80");
            assert_eq!(Refused::from_head(&refused.to_head()), refused);
        }
    }

    proptest! {
        #[test]
        fn any_reason_can_be_sent_and_is_bounded(reason in ".{0,600}") {
            let head = Refused::new(Refusal::NotFound, reason).to_head();
            prop_assert!(Refused::from_head(&head).reason.len() <= REASON_MAX_BYTES);
        }

        #[test]
        fn no_headers_make_the_parser_panic(
            session in any::<Vec<u8>>(), service in any::<Vec<u8>>(), port in any::<Vec<u8>>(),
            pod in any::<Vec<u8>>(), protocol in any::<Vec<u8>>(), host in any::<Vec<u8>>()
        ) {
            let mut headers = HeaderMap::new();
            let named = [
                (SESSION, session), (SERVICE, service), (PORT, port), (POD, pod), (PROTOCOL, protocol), (HOST, host),
            ];
            for (name, value) in named {
                if let Ok(value) = HeaderValue::from_bytes(&value) {
                    headers.insert(name, value);
                }
            }
            drop(OpenRequest::parse(&headers));
        }

        #[test]
        fn whatever_is_accepted_is_written_as_it_was_read(
            service in "[a-z0-9-]{1,8}/[a-z0-9-]{1,8}", port in 0_u32..70_000
        ) {
            let mut headers = wish(false).to_head().headers().clone();
            headers.insert(SERVICE, HeaderValue::try_from(service).expect("ASCII"));
            headers.insert(PORT, HeaderValue::try_from(port.to_string()).expect("ASCII"));
            if let Ok(wish) = OpenRequest::parse(&headers) {
                let head = wish.to_head();
                prop_assert_eq!(head.headers(), &headers);
            }
        }
    }
}
