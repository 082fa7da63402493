//! Through whom a program dials out: what `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` say, asked once for each host.
//!
//! Reading the environment is each program's own `config.rs`; this only says what was meant. An address may hold a
//! password: it shows itself without, and only [`ProxyUrl::expose`] has it.

use std::{fmt, net::IpAddr, str::FromStr};

use ipnet::IpNet;
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};
use url::{Host, Url};

/// How a proxy is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyKind {
    /// `CONNECT` over HTTP/1.1.
    Http,
    /// The same, inside TLS with the proxy.
    Https,
    /// SOCKS 5; names are looked up here.
    Socks5,
    /// SOCKS 5; the proxy looks names up.
    Socks5h,
}

impl ProxyKind {
    const fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
            Self::Socks5 | Self::Socks5h => 1080,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidProxy {
    #[error("it is no address of a proxy: write http://HOST:PORT, https:// or socks5h://")]
    NoAddress,
    #[error("`{0}://` is no kind of proxy that is known here: http, https, socks5 and socks5h are")]
    Kind(String),
    #[error("its user or password is not UTF-8, once percent signs are decoded")]
    Credentials,
}

/// The address of a proxy, with the user and password it asks for.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ProxyUrl {
    text: String,
    kind: ProxyKind,
    host: String,
    port: u16,
    credentials: Option<(String, String)>,
}

impl ProxyUrl {
    #[must_use]
    pub const fn kind(&self) -> ProxyKind {
        self.kind
    }

    /// Returns the host, an IPv6 address without its brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Returns user and password. Never log them.
    #[must_use]
    pub fn credentials(&self) -> Option<(&str, &str)> {
        self.credentials.as_ref().map(|(user, password)| (user.as_str(), password.as_str()))
    }

    /// Returns the whole address, password included, for whoever dials or keeps it. Never log it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// Returns `host:port`, by which people know the proxy.
    #[must_use]
    pub fn place(&self) -> String {
        host_and_port(&self.host, self.port)
    }
}

/// Returns `host:port`, with brackets where the host is an IPv6 address.
#[must_use]
pub fn host_and_port(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

impl FromStr for ProxyUrl {
    type Err = InvalidProxy;

    fn from_str(text: &str) -> Result<Self, InvalidProxy> {
        let text = text.trim();
        // What curl takes: a bare `host:port` is an HTTP proxy.
        let text = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let url = Url::parse(&text).map_err(|_| InvalidProxy::NoAddress)?;
        let kind = match url.scheme() {
            "http" => ProxyKind::Http,
            "https" => ProxyKind::Https,
            "socks5" => ProxyKind::Socks5,
            "socks5h" => ProxyKind::Socks5h,
            other => return Err(InvalidProxy::Kind(other.to_owned())),
        };
        let host = match url.host().ok_or(InvalidProxy::NoAddress)? {
            Host::Domain("") => return Err(InvalidProxy::NoAddress),
            Host::Ipv6(address) => address.to_string(),
            host => host.to_string(),
        };
        let decode = |part: &str| {
            let decoded = percent_decode_str(part).decode_utf8();
            decoded.map(|part| part.into_owned()).map_err(|_| InvalidProxy::Credentials)
        };
        let credentials = match (url.username(), url.password()) {
            ("", None) => None,
            (user, password) => Some((decode(user)?, decode(password.unwrap_or_default())?)),
        };
        let port = url.port().unwrap_or_else(|| kind.default_port());
        Ok(Self { kind, host, port, credentials, text })
    }
}

impl fmt::Display for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.text.split("://").next().unwrap_or_default();
        match &self.credentials {
            Some((user, _)) => write!(f, "{scheme}://{user}:***@{}", self.place()),
            None => write!(f, "{scheme}://{}", self.place()),
        }
    }
}

impl fmt::Debug for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TryFrom<String> for ProxyUrl {
    type Error = InvalidProxy;

    fn try_from(text: String) -> Result<Self, InvalidProxy> {
        text.parse()
    }
}

impl From<ProxyUrl> for String {
    fn from(proxy: ProxyUrl) -> Self {
        proxy.text
    }
}

/// Whoever is reached without a proxy, as `NO_PROXY` says it: hosts, domains with all that is in them, addresses,
/// networks, `*`; each of the names and addresses also with a port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NoProxy(String);

impl NoProxy {
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn covers(&self, host: &str, port: u16) -> bool {
        let address = host.parse::<IpAddr>().ok();
        self.0
            .split([',', ' ', '\t', '\n'])
            .map(str::trim)
            .filter(|entry| !entry.is_empty())
            .any(|entry| entry_covers(entry, host, address, port))
    }
}

fn entry_covers(entry: &str, host: &str, address: Option<IpAddr>, port: u16) -> bool {
    if entry == "*" {
        return true;
    }
    let (name, of_port) = without_port(entry);
    if of_port.is_some_and(|of_port| of_port != port) {
        return false;
    }
    let name = name.trim_start_matches('[').trim_end_matches(']');
    match (address, name.parse::<IpNet>(), name.parse::<IpAddr>()) {
        (Some(address), Ok(network), _) => network.contains(&address),
        (Some(address), _, Ok(only)) => only == address,
        (Some(_), ..) => false,
        (None, ..) => is_in_domain(host, name),
    }
}

/// An IPv6 address has colons of its own.
fn without_port(entry: &str) -> (&str, Option<u16>) {
    match entry.rsplit_once(':') {
        Some((name, port)) if !name.contains(':') || name.ends_with(']') => {
            port.parse().map_or((entry, None), |port| (name, Some(port)))
        }
        _ => (entry, None),
    }
}

fn is_in_domain(host: &str, domain: &str) -> bool {
    let domain = domain.strip_prefix('*').unwrap_or(domain).trim_matches('.').to_lowercase();
    let host = host.trim_end_matches('.').to_lowercase();
    !domain.is_empty()
        && (host == domain
            || host.strip_suffix(&domain).is_some_and(|before| before.ends_with('.')))
}

/// Through whom a program dials out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxySettings {
    /// For HTTPS, and so for everything that is dialled here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub https: Option<ProxyUrl>,
    /// For whatever has no proxy of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub all: Option<ProxyUrl>,
    #[serde(default)]
    pub no: NoProxy,
}

/// A variable that says something else than a proxy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{variable} names no proxy: {why}")]
pub struct InvalidProxySettings {
    pub variable: String,
    pub why: InvalidProxy,
}

impl ProxySettings {
    /// Reads the variables, each in capitals or, where it is not set, in small letters.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Self, InvalidProxySettings> {
        let get = |name: &str| {
            let set = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
            set(name).or_else(|| set(&name.to_lowercase()))
        };
        let proxy = |name: &str| match get(name) {
            None => Ok(None),
            Some(text) => text
                .parse()
                .map(Some)
                .map_err(|why| InvalidProxySettings { variable: name.to_owned(), why }),
        };
        Ok(Self {
            https: proxy("HTTPS_PROXY")?,
            all: proxy("ALL_PROXY")?,
            no: NoProxy::new(get("NO_PROXY").unwrap_or_default()),
        })
    }

    /// Returns the proxy for a host; `None` where it is dialled directly. A proxy cannot reach this machine's own
    /// loopback.
    #[must_use]
    pub fn towards(&self, host: &str, port: u16) -> Option<&ProxyUrl> {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let proxy = self.https.as_ref().or(self.all.as_ref())?;
        (!is_loopback(host) && !self.no.covers(host, port)).then_some(proxy)
    }
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> Result<ProxySettings, InvalidProxySettings> {
        let find =
            |name: &str| pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
        ProxySettings::read(find)
    }

    fn with_exceptions(no: &str) -> ProxySettings {
        settings(&[("HTTPS_PROXY", "http://proxy.corp:3128"), ("NO_PROXY", no)]).expect("valid")
    }

    #[test]
    fn each_kind_of_proxy_is_read() {
        let read = |text: &str| {
            let proxy: ProxyUrl = text.parse().expect(text);
            (proxy.kind(), proxy.place())
        };
        assert_eq!(read("http://proxy.corp:3128"), (ProxyKind::Http, "proxy.corp:3128".into()));
        assert_eq!(read("proxy.corp:3128/"), (ProxyKind::Http, "proxy.corp:3128".into()));
        assert_eq!(read("http://proxy.corp"), (ProxyKind::Http, "proxy.corp:80".into()));
        assert_eq!(read("https://proxy.corp"), (ProxyKind::Https, "proxy.corp:443".into()));
        assert_eq!(read("socks5://[::1]"), (ProxyKind::Socks5, "[::1]:1080".into()));
        assert_eq!(read("socks5h://10.0.0.1:9"), (ProxyKind::Socks5h, "10.0.0.1:9".into()));
    }

    #[test]
    fn what_is_no_proxy_says_what_to_write() {
        let why = |text: &str| text.parse::<ProxyUrl>().expect_err(text);
        assert_eq!(why("socks4://proxy"), InvalidProxy::Kind("socks4".into()));
        assert_eq!(why("http://"), InvalidProxy::NoAddress);
        assert_eq!(why("http://a b"), InvalidProxy::NoAddress);
        assert_eq!(why("http://%ff@proxy"), InvalidProxy::Credentials);
        let error = settings(&[("https_proxy", "ftp://x")]).expect_err("no proxy").to_string();
        assert!(
            error.starts_with("HTTPS_PROXY names no proxy") && error.contains("http,"),
            "{error}"
        );
    }

    #[test]
    fn user_and_password_are_decoded_and_never_shown() {
        let proxy: ProxyUrl = "http://ada:p%40ss%3Aword@proxy.corp:3128".parse().expect("valid");
        assert_eq!(proxy.credentials(), Some(("ada", "p@ss:word")));
        for shown in [proxy.to_string(), format!("{proxy:?}"), proxy.place()] {
            assert!(!shown.contains("word"), "{shown}");
        }
        assert_eq!(proxy.to_string(), "http://ada:***@proxy.corp:3128");
        let kept = serde_json::to_string(&proxy).expect("plain");
        assert_eq!(serde_json::from_str::<ProxyUrl>(&kept).expect("its own"), proxy);
    }

    #[test]
    fn the_variable_for_https_comes_first_and_capitals_before_small_letters() {
        let place = |pairs: &[_]| {
            let settings = settings(pairs).expect("valid");
            settings.towards("hub.example.com", 443).map(ProxyUrl::host).map(str::to_owned)
        };
        assert_eq!(place(&[]), None);
        assert_eq!(place(&[("HTTPS_PROXY", " ")]), None);
        assert_eq!(place(&[("ALL_PROXY", "socks5://a")]).as_deref(), Some("a"));
        assert_eq!(place(&[("ALL_PROXY", "a"), ("https_proxy", "b")]).as_deref(), Some("b"));
        assert_eq!(place(&[("HTTPS_PROXY", "a"), ("https_proxy", "b")]).as_deref(), Some("a"));
    }

    #[test]
    fn exceptions_are_hosts_domains_networks_and_everything() {
        let direct = |no: &str, host: &str| with_exceptions(no).towards(host, 443).is_none();
        for (no, host) in [
            ("hub.example.com", "hub.example.com"),
            ("other, HUB.example.com", "hub.example.com."),
            ("example.com", "hub.example.com"),
            (".example.com", "hub.example.com"),
            ("*.example.com", "hub.example.com"),
            ("*", "hub.example.com"),
            ("hub.example.com:443", "hub.example.com"),
            ("10.0.0.0/8", "10.1.2.3"),
            ("10.1.2.3", "10.1.2.3"),
            ("fd00::/8", "fd00::7"),
            ("[fd00::7]:443", "[fd00::7]"),
            ("", "localhost"),
            ("", "127.0.0.2"),
            ("", "::1"),
        ] {
            assert!(direct(no, host), "{host} is in `{no}`");
        }
        for (no, host) in [
            ("", "hub.example.com"),
            ("ample.com", "hub.example.com"),
            ("hub.example.com:8443", "hub.example.com"),
            ("hub.example.com.evil", "hub.example.com"),
            ("10.0.0.0/8", "11.0.0.1"),
            ("10.0.0.0/8", "10.example.com"),
            ("fd00::/8", "fe80::1"),
            (".", "hub.example.com"),
        ] {
            assert!(!direct(no, host), "{host} is not in `{no}`");
        }
    }
}
