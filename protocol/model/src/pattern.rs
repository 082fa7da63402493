//! Which services a developer wants: `shop/cart`, `shop/cart:8080`, `shop/*`, `*/cart`, `!shop/payment`; and which hosts
//! outside the cluster: `+db.example.net:5432`.
//!
//! A `*` stands for a whole name. There are no globs: what `ca*` reaches would change with every new service.

use std::{collections::BTreeSet, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    ExternalHost, InvalidHost, Namespace, Port, ServiceName, ServiceRef, service::InvalidName,
};

/// Most hosts outside the cluster of one consume: each is decided by itself, again and again.
const HOSTS_MAX: usize = 64;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPattern {
    #[error(
        "`{text}` has no namespace: write `namespace/service`, for example `shop/cart` or `shop/*`, or `*/cart` for one name in every namespace"
    )]
    NoNamespace { text: String },
    #[error(
        "`{text}` has no namespace; if it is a host outside the cluster, write `+{text}` or `--also {text}`"
    )]
    PerhapsOutside { text: String },
    #[error("in `{text}`: {source}")]
    Host { text: String, source: InvalidHost },
    #[error("{count} hosts outside the cluster are more than the {HOSTS_MAX} of one consume")]
    TooManyHosts { count: usize },
    #[error("in `{text}`: {source}")]
    Name { text: String, source: InvalidName },
    #[error(
        "in `{text}`: `{part}` is part of a name, and `*` stands for a whole one: write `shop/*`, `*/cart` or `*/*`"
    )]
    PartOfName { text: String, part: String },
    #[error("in `{text}`: `{port}` is not a port (1 to 65535)")]
    Port { text: String, port: String },
    #[error(
        "in `{text}`: a port is named by its number alone, `:{port}`, and is that of TCP and of UDP"
    )]
    PortOfProtocol { text: String, port: String },
    #[error(
        "`{text}` excludes one port; only whole services can be excluded: write `!namespace/service`"
    )]
    PortOfExclusion { text: String },
    #[error(
        "`{text}` excludes every service there is: `fairlead consume clear` ends what is consumed"
    )]
    ExcludesEverything { text: String },
    #[error("only exclusions: say first what to consume, for example `shop/*`")]
    OnlyExclusions,
}

/// One half of a pattern: this name, or whichever.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Part<N> {
    Any,
    One(N),
}

impl<N: PartialEq> Part<N> {
    fn covers(&self, name: &N) -> bool {
        self.one().is_none_or(|one| one == name)
    }

    const fn one(&self) -> Option<&N> {
        match self {
            Self::Any => None,
            Self::One(name) => Some(name),
        }
    }
}

impl<N: fmt::Display> fmt::Display for Part<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::One(name) => name.fmt(f),
        }
    }
}

/// One word of a consume: which services of which namespaces, perhaps one port of them, or a host outside the cluster; or
/// an exclusion.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern {
    excludes: bool,
    about: About,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum About {
    Services { namespace: Part<Namespace>, name: Part<ServiceName>, port: Option<Port> },
    Host(ExternalHost),
}

impl Pattern {
    #[must_use]
    pub const fn excludes(&self) -> bool {
        self.excludes
    }

    /// Returns the namespace when the pattern names one.
    #[must_use]
    pub const fn namespace(&self) -> Option<&Namespace> {
        match &self.about {
            About::Services { namespace, .. } => namespace.one(),
            About::Host(_) => None,
        }
    }

    /// Returns the service's name when the pattern has one, in whichever namespace.
    #[must_use]
    pub const fn service_name(&self) -> Option<&ServiceName> {
        match &self.about {
            About::Services { name, .. } => name.one(),
            About::Host(_) => None,
        }
    }

    /// Returns the service when the pattern names exactly one.
    #[must_use]
    pub fn names_one(&self) -> Option<ServiceRef> {
        Some(ServiceRef::new(self.namespace()?.clone(), self.service_name()?.clone()))
    }

    #[must_use]
    pub const fn port(&self) -> Option<Port> {
        match &self.about {
            About::Services { port, .. } => *port,
            About::Host(host) => Some(host.port),
        }
    }

    /// Returns the host outside the cluster that the pattern names.
    #[must_use]
    pub const fn host(&self) -> Option<&ExternalHost> {
        match &self.about {
            About::Services { .. } => None,
            About::Host(host) => Some(host),
        }
    }

    /// Says whether the pattern speaks of this service, whatever the port.
    #[must_use]
    pub fn covers(&self, service: &ServiceRef) -> bool {
        match &self.about {
            About::Services { namespace, name, .. } => {
                namespace.covers(&service.namespace) && name.covers(&service.name)
            }
            About::Host(_) => false,
        }
    }
}

impl From<ExternalHost> for Pattern {
    fn from(host: ExternalHost) -> Self {
        Self { excludes: false, about: About::Host(host) }
    }
}

impl FromStr for Pattern {
    type Err = InvalidPattern;

    fn from_str(text: &str) -> Result<Self, InvalidPattern> {
        let (excludes, rest) = match text.strip_prefix('!') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        if let Some(host) = rest.strip_prefix('+') {
            let about = host.parse().map(About::Host);
            let invalid = |source| InvalidPattern::Host { text: text.to_owned(), source };
            return Ok(Self { excludes, about: about.map_err(invalid)? });
        }
        let Some((namespace, rest)) = rest.split_once('/') else {
            return Err(match rest.parse::<ExternalHost>() {
                Ok(_) => InvalidPattern::PerhapsOutside { text: rest.to_owned() },
                Err(_) => InvalidPattern::NoNamespace { text: text.to_owned() },
            });
        };
        let (name, port) = match rest.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (rest, None),
        };
        let port = match port {
            None => None,
            Some(_) if excludes => {
                return Err(InvalidPattern::PortOfExclusion { text: text.to_owned() });
            }
            Some(port) => Some(port.parse().map_err(|_| not_a_port(text, port))?),
        };
        let (namespace, name) = (read_part(text, namespace)?, read_part(text, name)?);
        if let (true, Part::Any, Part::Any) = (excludes, &namespace, &name) {
            return Err(InvalidPattern::ExcludesEverything { text: text.to_owned() });
        }
        Ok(Self { excludes, about: About::Services { namespace, name, port } })
    }
}

/// Ports are listed as `53/udp`, which invites to name them so.
fn not_a_port(text: &str, port: &str) -> InvalidPattern {
    let text = text.to_owned();
    match port.split_once('/') {
        Some((number, protocol)) if ["tcp", "udp"].contains(&&*protocol.to_lowercase()) => {
            InvalidPattern::PortOfProtocol { text, port: number.to_owned() }
        }
        _ => InvalidPattern::Port { text, port: port.to_owned() },
    }
}

fn read_part<N: FromStr<Err = InvalidName>>(
    text: &str,
    part: &str,
) -> Result<Part<N>, InvalidPattern> {
    match part {
        "*" => Ok(Part::Any),
        part if part.contains('*') => {
            Err(InvalidPattern::PartOfName { text: text.to_owned(), part: part.to_owned() })
        }
        part => part
            .parse()
            .map(Part::One)
            .map_err(|source| InvalidPattern::Name { text: text.to_owned(), source }),
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.excludes {
            f.write_str("!")?;
        }
        match &self.about {
            About::Services { namespace, name, port: None } => write!(f, "{namespace}/{name}"),
            About::Services { namespace, name, port: Some(port) } => {
                write!(f, "{namespace}/{name}:{port}")
            }
            About::Host(host) => write!(f, "+{host}"),
        }
    }
}

impl TryFrom<String> for Pattern {
    type Error = InvalidPattern;

    fn try_from(text: String) -> Result<Self, InvalidPattern> {
        text.parse()
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        pattern.to_string()
    }
}

/// The patterns of one consume, in any order; an exclusion wins over every inclusion.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Pattern>", into = "Vec<Pattern>")]
pub struct Patterns(Vec<Pattern>);

impl Patterns {
    pub fn new(patterns: Vec<Pattern>) -> Result<Self, InvalidPattern> {
        if patterns.iter().all(Pattern::excludes) {
            return Err(InvalidPattern::OnlyExclusions);
        }
        let count = patterns.iter().filter(|pattern| pattern.host().is_some()).count();
        if count > HOSTS_MAX {
            return Err(InvalidPattern::TooManyHosts { count });
        }
        Ok(Self(patterns))
    }

    /// Returns what some words say once these exclusions are said as well: a word that one of them names is taken back, and
    /// what the others cover stays excluded. An error when nothing would be left.
    pub fn without(
        words: impl IntoIterator<Item = Pattern>,
        exclusions: &[Pattern],
    ) -> Result<Self, InvalidPattern> {
        let is_taken_back = |word: &Pattern| {
            let names = |said: &Pattern| said.excludes && said.about == word.about;
            !word.excludes && exclusions.iter().any(names)
        };
        let stay = words.into_iter().filter(|word| !is_taken_back(word));
        Self::new(exclusions.iter().cloned().chain(stay).collect())
    }

    pub fn iter(&self) -> impl Iterator<Item = &Pattern> {
        self.0.iter()
    }

    /// Says whether this port of this service is wanted.
    #[must_use]
    pub fn want(&self, service: &ServiceRef, port: Port) -> bool {
        let names = |word: &Pattern| word.port().is_none_or(|p| p == port);
        self.want_some_of(service) && self.covering(service).any(names)
    }

    /// Says whether any port of this service is wanted.
    #[must_use]
    pub fn want_some_of(&self, service: &ServiceRef) -> bool {
        self.covering(service).next().is_some() && !self.covering(service).any(Pattern::excludes)
    }

    fn covering(&self, service: &ServiceRef) -> impl Iterator<Item = &Pattern> {
        self.0.iter().filter(move |pattern| pattern.covers(service))
    }

    /// Returns the hosts outside the cluster that are wanted, each once.
    #[must_use]
    pub fn hosts(&self) -> BTreeSet<&ExternalHost> {
        let named = |excludes| {
            let words = self.0.iter().filter(move |pattern| pattern.excludes() == excludes);
            words.filter_map(Pattern::host).collect::<BTreeSet<_>>()
        };
        &named(false) - &named(true)
    }
}

impl TryFrom<Vec<Pattern>> for Patterns {
    type Error = InvalidPattern;

    fn try_from(patterns: Vec<Pattern>) -> Result<Self, InvalidPattern> {
        Self::new(patterns)
    }
}

impl From<Patterns> for Vec<Pattern> {
    fn from(patterns: Patterns) -> Self {
        patterns.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(words: &[&str]) -> Patterns {
        Patterns::new(words.iter().map(|w| w.parse().expect("valid")).collect())
            .expect("some wanted")
    }

    fn wants(words: &[&str], service: &str, port: u16) -> bool {
        patterns(words).want(&service.parse().expect("valid"), Port::new(port).expect("not 0"))
    }

    #[test]
    fn a_pattern_is_written_as_it_was_read() {
        for text in [
            "shop/cart",
            "shop/cart:8080",
            "shop/*",
            "!shop/payment",
            "shop/*:80",
            "*/cart",
            "*/cart:80",
            "*/*",
            "*/*:80",
            "!*/cart",
            "!shop/*",
            "+db.example.net:5432",
            "!+db.example.net:5432",
        ] {
            assert_eq!(text.parse::<Pattern>().expect("valid").to_string(), text);
        }
    }

    #[test]
    fn a_star_wants_the_whole_namespace_and_nothing_else() {
        assert!(wants(&["shop/*"], "shop/cart", 80));
        assert!(!wants(&["shop/*"], "pay/cart", 80));
    }

    #[test]
    fn a_star_in_place_of_the_namespace_wants_it_everywhere() {
        assert!(wants(&["*/cart"], "shop/cart", 80) && wants(&["*/cart"], "pay/cart", 80));
        assert!(!wants(&["*/cart"], "shop/catalog", 80));
        assert!(wants(&["*/*:80"], "pay/api", 80) && !wants(&["*/*:80"], "pay/api", 81));
        assert!(!wants(&["*/*", "!*/cart"], "shop/cart", 80));
        assert!(!wants(&["*/*", "!shop/*"], "shop/catalog", 80));
        assert!(wants(&["*/*", "!*/cart", "!shop/*"], "pay/api", 80));
    }

    #[test]
    fn a_port_narrows() {
        assert!(wants(&["shop/cart:8080"], "shop/cart", 8080));
        assert!(!wants(&["shop/cart:8080"], "shop/cart", 80));
    }

    #[test]
    fn an_exclusion_wins_wherever_it_stands() {
        assert!(!wants(&["!shop/payment", "shop/*"], "shop/payment", 80));
        assert!(!wants(&["shop/payment", "shop/*", "!shop/payment"], "shop/payment", 80));
    }

    #[test]
    fn a_later_exclusion_takes_back_the_word_that_it_names() {
        let without = |words: &[&str], exclusions: &[&str]| {
            let read = |words: &[&str]| -> Vec<Pattern> {
                words.iter().map(|word| word.parse().expect("valid")).collect()
            };
            let left = Patterns::without(read(words), &read(exclusions))?;
            Ok::<_, InvalidPattern>(left.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        let left = without(&["shop/crat", "shop/*", "+a.b:1"], &["!shop/crat", "!+a.b:1"]);
        assert_eq!(left.expect("some"), ["!shop/crat", "!+a.b:1", "shop/*"]);
        let left = without(&["shop/cart:80", "!shop/pay"], &["!shop/cart"]);
        assert_eq!(left.expect("some"), ["!shop/cart", "shop/cart:80", "!shop/pay"]);
        let nothing = without(&["shop/cart"], &["!shop/cart"]);
        assert_eq!(nothing, Err(InvalidPattern::OnlyExclusions));
    }

    #[test]
    fn a_host_outside_the_cluster_is_wanted_by_name_and_port_and_is_no_service() {
        let words = ["shop/*", "+db.example.net:5432", "+a.b:1", "!+a.b:1", "+db.example.net:5432"];
        let hosts: Vec<_> = patterns(&words).hosts().into_iter().map(ToString::to_string).collect();
        assert_eq!(hosts, ["db.example.net:5432"]);
        assert!(!wants(&["+example.net:80"], "net/example", 80));
        assert!(wants(&["shop/*", "!+cart.shop:80"], "shop/cart", 80));
    }

    #[test]
    fn a_consume_has_only_so_many_hosts() {
        let hosts = |count: usize| (0..count).map(|n| format!("+h{n}.example.net:1"));
        let read = |count| Patterns::new(hosts(count).map(|w| w.parse().expect("valid")).collect());
        assert!(read(HOSTS_MAX).is_ok());
        let count = HOSTS_MAX + 1;
        assert_eq!(read(count), Err(InvalidPattern::TooManyHosts { count }));
    }

    #[test]
    fn malformed_patterns_say_what_to_write() {
        for (text, expected) in [
            ("cart", "namespace/service"),
            ("shop/", "not a service name"),
            ("shop/cart:0", "not a port"),
            ("shop/cart:http", "not a port"),
            ("shop/cart:http/udp/x", "not a port"),
            ("kube-system/kube-dns:53/udp", "`:53`, and is that of TCP and of UDP"),
            ("!shop/cart:80", "whole services"),
            ("Shop/cart", "not a namespace"),
            ("shop/ca*", "stands for a whole one"),
            ("sh*/cart", "stands for a whole one"),
            ("**/cart", "stands for a whole one"),
            ("*", "`*/cart` for one name in every namespace"),
            ("!*/*", "consume clear"),
            ("db.example.net:5432", "--also db.example.net:5432"),
            ("+db.example.net", "has no port"),
            ("+10.0.0.1:80", "is an address"),
            ("+shop/cart:80", "not a host's name"),
        ] {
            let error = text.parse::<Pattern>().expect_err(text).to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
        assert_eq!(
            Patterns::new(vec!["!shop/cart".parse().expect("valid")]),
            Err(InvalidPattern::OnlyExclusions)
        );
    }
}
