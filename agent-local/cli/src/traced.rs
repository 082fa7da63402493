//! What a trace is about: the URL, the service or the host as somebody wrote it, and what this laptop's sessions know of it.

use std::{net::Ipv4Addr, str::FromStr};

use fairlead_model::{
    Callee, ExternalHost, InvalidName, InvalidPort, Phase, Port, Protocol, ServicePort, ServiceRef,
    SessionKind,
};
use laptop_ipc::{
    daemon::{Reached, Remapped, Session, Status, Teamspace},
    supervisor::{DOMAIN, cluster_names},
};
use reqwest::Url;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Traced {
    Url(Url),
    Service(ServiceRef, Option<ServicePort>),
    /// Outside the cluster.
    Host(ExternalHost),
}

impl FromStr for Traced {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if !text.contains("://") {
            return match text.parse() {
                Ok(host) => Ok(Self::Host(host)),
                Err(_) if !text.contains('/') => Err(format!(
                    "`{text}` is neither a service (shop/cart), nor a host outside with its port \
                     (db.example.net:5432), nor a URL (http://frontend.shop)"
                )),
                Err(_) => service_of_words(text),
            };
        }
        let url: Url = text.parse().map_err(|error| format!("it is not a URL: {error}"))?;
        match (url.scheme(), url.host_str()) {
            ("http" | "https", Some(_)) => Ok(Self::Url(url)),
            _ => Err("only http and https can be asked; of anything else trace the service, \
                      such as shop/db:5432"
                .to_owned()),
        }
    }
}

impl Traced {
    fn host(&self) -> Option<String> {
        match self {
            Self::Url(url) => Some(url.host_str()?.trim_end_matches('.').to_ascii_lowercase()),
            Self::Service(..) | Self::Host(_) => None,
        }
    }

    fn port(&self) -> Option<ServicePort> {
        match self {
            Self::Url(url) => url.port_or_known_default().and_then(Port::new).map(ServicePort::tcp),
            Self::Service(_, port) => *port,
            Self::Host(host) => Some(ServicePort::tcp(host.port)),
        }
    }

    /// Returns the service as the words alone have it, with the teamspace where they name one.
    pub(crate) fn words(&self) -> Option<Words> {
        let (service, teamspace) = match self {
            Self::Url(_) => service_of_name(&self.host()?)?,
            Self::Service(service, _) => (service.clone(), None),
            Self::Host(_) => return None,
        };
        Some(Words { service, port: self.port(), teamspace })
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Words {
    pub(crate) service: ServiceRef,
    pub(crate) port: Option<ServicePort>,
    pub(crate) teamspace: Option<String>,
}

/// Reads `shop/cart`, `shop/cart:80` or `shop/dns:53/udp`.
fn service_of_words(text: &str) -> Result<Traced, String> {
    let (service, port) = match text.split_once(':') {
        Some((service, port)) => (service, Some(port)),
        None => (text, None),
    };
    let service = service.parse().map_err(|error: InvalidName| error.to_string())?;
    let port = port.map(str::parse).transpose();
    Ok(Traced::Service(service, port.map_err(|error: InvalidPort| error.to_string())?))
}

fn service_of_name(host: &str) -> Option<(ServiceRef, Option<String>)> {
    let labels: Vec<&str> = host.split('.').collect();
    let (name, namespace, teamspace) = match labels[..] {
        [name, namespace, teamspace, DOMAIN] => (name, namespace, Some(teamspace.to_owned())),
        [name, namespace]
        | [name, namespace, "svc"]
        | [name, namespace, "svc", "cluster", "local"] => (name, namespace, None),
        _ => return None,
    };
    Some((format!("{namespace}/{name}").parse().ok()?, teamspace))
}

/// A service or host that this laptop has a session about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Here {
    pub(crate) teamspace: Teamspace,
    pub(crate) callee: Callee,
    pub(crate) port: Option<ServicePort>,
    /// Those that the session is about.
    pub(crate) ports: Vec<ServicePort>,
    /// What programs connect to; nothing while the service is this laptop's own.
    pub(crate) name: Option<(String, Ipv4Addr)>,
}

/// Finds the service among the sessions; only those of `teamspace`, where that is named.
pub(crate) fn find(status: &Status, traced: &Traced, teamspace: Option<&str>) -> Option<Here> {
    let is_live = |session: &&Session| {
        !matches!(session.phase, Phase::Ended | Phase::Refused)
            && teamspace.is_none_or(|name| session.teamspace.name == name)
            && !session.of_program
    };
    let live = || status.sessions.iter().filter(is_live);
    let consumed = live()
        .flat_map(|session| session.services.iter().map(move |reached| (session, reached)))
        .filter(|(session, reached)| is_meant(traced, session, reached))
        .max_by_key(|(session, _)| session.is_home);
    if let Some((session, reached)) = consumed {
        return Some(Here {
            teamspace: session.teamspace.clone(),
            callee: called(&reached.callee),
            port: port_of(traced, reached),
            ports: reached.ports.clone(),
            name: Some((traced.host().unwrap_or_else(|| reached.name.clone()), reached.address)),
        });
    }
    let Words { service, port, teamspace: named } = traced.words()?;
    let own = live().find(|session| {
        session.kind == SessionKind::Intercept
            && session.wanted == [service.to_string()]
            && named.as_ref().is_none_or(|name| *name == session.teamspace.name)
    })?;
    let ports: Vec<_> = own.ports.iter().map(|port| ServicePort::tcp(port.service_port)).collect();
    let port = port.or_else(|| ports.first().copied());
    let callee = service.into();
    Some(Here { teamspace: own.teamspace.clone(), callee, port, ports, name: None })
}

/// Of one pod its Service is followed.
fn called(callee: &Callee) -> Callee {
    callee.service().map_or_else(|| callee.clone(), |service| service.clone().into())
}

fn is_meant(traced: &Traced, session: &Session, reached: &Reached) -> bool {
    match traced {
        Traced::Service(service, _) => reached.callee == service.clone().into(),
        Traced::Host(host) => reached.callee == host.name.clone().into(),
        Traced::Url(_) => traced.host().is_some_and(|host| {
            host == reached.name
                || host == reached.address.to_string()
                || session.is_home && cluster_names(&reached.callee, true).contains(&host)
        }),
    }
}

/// A port that is another one on this laptop is the service's own behind it. A number alone means TCP, or UDP where only
/// that is reached.
fn port_of(traced: &Traced, reached: &Reached) -> Option<ServicePort> {
    let Some(asked) = traced.port() else {
        return reached.ports.iter().min_by_key(|port| port.protocol == Protocol::Udp).copied();
    };
    let behind = |asked: ServicePort| {
        let is_it =
            |moved: &&Remapped| ServicePort { port: moved.laptop_port, ..moved.port } == asked;
        reached.remapped.iter().find(is_it).map_or(asked, |moved| moved.port)
    };
    let (port, udp) = (behind(asked), behind(ServicePort::udp(asked.port)));
    let is_udp = matches!(traced, Traced::Service(..))
        && !reached.ports.contains(&port)
        && reached.ports.contains(&udp);
    Some(if is_udp { udp } else { port })
}

#[cfg(test)]
mod tests {
    use fairlead_model::{HostName, ServicePort, SessionId, TeamspaceId};
    use laptop_ipc::daemon::{Laptop, Link};

    use super::*;

    fn port(number: u16) -> Port {
        Port::new(number).expect("not 0")
    }

    fn session(kind: SessionKind, teamspace: &str, is_home: bool) -> Session {
        Session {
            id: SessionId::generate(),
            kind,
            teamspace: Teamspace { id: TeamspaceId::generate(), name: teamspace.to_owned() },
            phase: Phase::Active,
            detail: None,
            failure: None,
            wanted: Vec::new(),
            services: Vec::new(),
            is_home,
            of_program: false,
            ports: Vec::new(),
            carriers: 1,
            paths: Vec::new(),
        }
    }

    fn consume(teamspace: &str, is_home: bool, name: &str) -> Session {
        let reached = Reached {
            callee: "shop/cart".parse::<ServiceRef>().expect("valid").into(),
            name: name.to_owned(),
            address: Ipv4Addr::new(127, 72, 1, 2 + u8::from(is_home)),
            ports: [80, 81].map(|number| ServicePort::tcp(port(number))).into(),
            remapped: vec![Remapped {
                port: ServicePort::tcp(port(80)),
                laptop_port: port(10_080),
            }],
            refusal: None,
        };
        Session { services: vec![reached], ..session(SessionKind::Consume, teamspace, is_home) }
    }

    fn status(sessions: Vec<Session>) -> Status {
        Status {
            version: String::new(),
            pid: 1,
            hub: Link::SignedOut,
            laptop: Laptop::Proven,
            way: None,
            dns_refusal: None,
            split_dns: None,
            sessions,
        }
    }

    fn found(status: &Status, words: &str, teamspace: Option<&str>) -> Option<(String, u16)> {
        let here = find(status, &words.parse().expect("valid"), teamspace)?;
        Some((here.teamspace.name, here.port.map_or(0, |port| port.port.get())))
    }

    #[test]
    fn each_name_of_a_service_finds_it_and_its_port() {
        let beside = consume("prod", false, "cart.shop.prod.fairlead");
        let status = status(vec![beside, consume("staging", true, "cart.shop")]);
        for (words, teamspace, port) in [
            ("shop/cart", "staging", 80),
            ("shop/cart:81", "staging", 81),
            ("http://cart/x", "staging", 80),
            ("http://CART.shop.:10080", "staging", 80),
            ("https://cart.shop.svc.cluster.local", "staging", 443),
            ("http://127.72.1.3:81", "staging", 81),
            ("http://cart.shop.prod.fairlead", "prod", 80),
        ] {
            assert_eq!(found(&status, words, None), Some((teamspace.to_owned(), port)), "{words}");
        }
        assert_eq!(found(&status, "shop/cart", Some("prod")), Some(("prod".to_owned(), 80)));
        for other in ["shop/pay", "http://cart.pay", "http://example.com/"] {
            assert_eq!(found(&status, other, None), None, "{other}");
        }
    }

    #[test]
    fn a_host_outside_is_found_by_its_name_and_port_or_by_a_url() {
        let mut consume = consume("staging", true, "db.example.net");
        let host: HostName = "db.example.net".parse().expect("valid");
        consume.services[0].callee = host.into();
        let status = status(vec![consume]);
        for (words, port) in
            [("db.example.net:81", 81), ("http://db.example.net/", 80), ("https://127.72.1.3", 443)]
        {
            assert_eq!(found(&status, words, None), Some(("staging".to_owned(), port)), "{words}");
        }
        for other in ["other.example.net:81", "http://example.net", "net/example"] {
            assert_eq!(found(&status, other, None), None, "{other}");
        }
    }

    #[test]
    fn a_port_of_udp_is_found_where_it_is_written_or_the_only_one() {
        let consume = consume("staging", true, "cart.shop");
        let written = |text: &str| text.parse::<ServicePort>().expect("a port");
        let found = |ports: &[&str], words: &str| {
            let mut consume = consume.clone();
            consume.services[0].ports = ports.iter().map(|port| written(port)).collect();
            consume.services[0].remapped =
                vec![Remapped { port: written("53/udp"), laptop_port: port(10_053) }];
            let traced = words.parse().expect("valid");
            find(&status(vec![consume]), &traced, None)?.port.map(|port| port.to_string())
        };
        for (ports, words, port) in [
            (&["53/udp", "53"][..], "shop/cart", "53"),
            (&["53/udp", "53"], "shop/cart:53", "53"),
            (&["53/udp", "53"], "shop/cart:53/udp", "53/udp"),
            (&["53/udp"], "shop/cart", "53/udp"),
            (&["53/udp"], "shop/cart:53", "53/udp"),
            (&["53/udp"], "shop/cart:10053", "53/udp"),
            (&["53/udp"], "shop/cart:10053/udp", "53/udp"),
            (&["53/udp"], "http://cart.shop:53", "53"),
        ] {
            assert_eq!(found(ports, words).as_deref(), Some(port), "{words} of {ports:?}");
        }
    }

    #[test]
    fn what_is_over_or_of_one_program_is_not_reached_here() {
        let over = Session { phase: Phase::Ended, ..consume("staging", true, "cart.shop") };
        let of_program = Session { of_program: true, ..consume("staging", true, "cart.shop") };
        assert_eq!(found(&status(vec![over, of_program]), "shop/cart", None), None);
    }

    #[test]
    fn an_own_intercept_has_no_name_here() {
        let own = Session {
            wanted: vec!["shop/cart".to_owned()],
            ports: vec!["3000:81".parse().expect("valid")],
            ..session(SessionKind::Intercept, "staging", false)
        };
        let status = status(vec![own]);
        let here = find(&status, &"shop/cart".parse().expect("valid"), None).expect("it is hers");
        assert_eq!((here.port, here.name), (Some(ServicePort::tcp(port(81))), None));
        assert_eq!(found(&status, "http://cart.shop.svc", None), Some(("staging".to_owned(), 80)));
        assert_eq!(found(&status, "http://cart.shop.prod.fairlead", None), None);
    }

    #[test]
    fn words_alone_say_which_service_is_meant() {
        let words = |text: &str| {
            let words = text.parse::<Traced>().expect("valid").words()?;
            Some((words.service.to_string(), words.teamspace))
        };
        assert_eq!(words("http://cart.shop.svc"), Some(("shop/cart".to_owned(), None)));
        let prod = Some("prod".to_owned());
        assert_eq!(words("http://cart.shop.prod.fairlead"), Some(("shop/cart".to_owned(), prod)));
        for none in ["http://cart", "http://10.0.0.1/", "http://a.b.c.d.e", "http://[::1]/"] {
            assert_eq!(words(none), None, "{none}");
        }
        for wrong in ["cart", "ftp://cart.shop", "http://", "shop/cart:http"] {
            wrong.parse::<Traced>().expect_err(wrong);
        }
    }
}
