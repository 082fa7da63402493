//! Consume: from the words a developer wrote to a session, its grant, and the reasons for what was refused.

use fairlead_model::{
    DeviceId, ExternalHost, Pattern, Patterns, ServicePort, ServiceRef, TeamspaceId, similar,
};
use hub_policy::{
    Action, Caller, Decided, Decider, Facts, HostFacts, Permit, Permits, Refused, TeamspaceFacts,
    actions::{Consume, Reach, ReachExternal, SeeService},
    decide_each,
};
use hub_store::{Beginning, Granted, GrantedService, Service, Session, Teamspace};

use super::{ActionError, sessions, teamspaces};
use crate::Hub;

/// What somebody asks for.
#[derive(Debug)]
pub struct ConsumeAsked {
    pub teamspace: TeamspaceId,
    pub device: DeviceId,
    pub patterns: Patterns,
}

#[derive(Debug)]
pub struct ConsumeBegun {
    pub session: Session,
    pub grant: String,
    pub granted: Granted,
    pub refused: Vec<Refused<Reach>>,
    pub unmatched: Vec<Unmatched>,
}

/// A word that brought nothing.
#[derive(Debug, PartialEq, Eq)]
pub struct Unmatched {
    pub pattern: Pattern,
    /// A sentence without its full stop.
    pub reason: String,
    /// What may have been meant, as far as the caller may see it.
    pub similar: Vec<String>,
}

/// Begins a consume session: decides for every service that matches and every host that is named, and says which were
/// refused and why.
///
/// The decisions are recorded in the transaction that creates the session, so neither exists without the other.
pub async fn begin(
    hub: &Hub,
    caller: &Caller,
    asked: ConsumeAsked,
) -> Result<ConsumeBegun, ActionError> {
    let facts = hub.facts(caller).await?;
    let teamspace = teamspaces::visible(hub, caller, asked.teamspace, &facts).await?;
    sessions::must_be_open(&teamspace)?;
    sessions::own_device(hub, caller, asked.device).await?;
    let catalogue = hub.store.scoped(caller.org).services(teamspace.id).await?;
    let Brought { permits, refused, unmatched } =
        bring(hub, caller, &asked.patterns, &catalogue, &teamspace, &facts).await?;
    let beginning = Beginning {
        device: asked.device,
        teamspace: teamspace.id,
        begun_from: caller.from.map(|ip| ip.to_string()),
    };
    let session = hub
        .store
        .begin_consume(&permits, &refused, &asked.patterns, &beginning, hub.clock.now())
        .await?;
    let store = hub.store.unscoped("the pods of what the session may reach");
    store.session_pods_follow(&session).await?;
    let granted = hub.store.scoped(caller.org).granted(session.id).await?;
    let grant = hub.mint(&session, &granted, facts.policies.version()).await?;
    tracing::info!(
        session = %session.id, teamspace = %teamspace.name, services = granted.services.len(),
        hosts = granted.hosts.len(), "Consume began"
    );
    Ok(ConsumeBegun { session, grant, granted, refused, unmatched })
}

/// What words bring: at least one service or host.
pub(super) struct Brought {
    pub(super) permits: Permits<Reach>,
    /// As far as the caller may see it.
    pub(super) refused: Vec<Refused<Reach>>,
    pub(super) unmatched: Vec<Unmatched>,
}

/// Decides for everything that matches; an error when there is nothing to reach, or more than a grant can name.
pub(super) async fn bring(
    hub: &Hub,
    caller: &Caller,
    patterns: &Patterns,
    catalogue: &[Service],
    teamspace: &Teamspace,
    facts: &Facts,
) -> Result<Brought, ActionError> {
    let decided = decide_matching(caller, patterns, catalogue, &teamspace.facts(), facts);
    let mut decider = Decider::new(caller, facts);
    let may_see = |service: &Service| {
        decider.would_permit(&SeeService { target: service.facts(&teamspace.facts()) })
    };
    let (permits, refused) = match decided.at_least_one() {
        Ok(decided) => decided,
        Err(refused) => {
            let refused = sessions::only_visible(refused);
            let unmatched = unmatched(patterns, &[], catalogue, may_see);
            return Err(none_allowed(hub, caller, teamspace, refused, &unmatched).await);
        }
    };
    let granted = granted_by(permits.iter());
    hub.must_fit_one_grant(caller.org, &granted).await?;
    let refused = sessions::only_visible(refused);
    let unmatched = unmatched(patterns, &reached(&permits, &refused), catalogue, may_see);
    Ok(Brought { permits, refused, unmatched })
}

/// Decides for every service of the catalogue that the patterns want, and every host that they name.
pub(super) fn decide_matching(
    caller: &Caller,
    patterns: &Patterns,
    catalogue: &[Service],
    teamspace: &TeamspaceFacts,
    facts: &Facts,
) -> Decided<Reach> {
    let wanted = catalogue.iter().filter_map(|service| {
        let wanted = |port: &ServicePort| patterns.want(&service.service, port.port);
        let ports: Vec<_> = service.consumable_ports().filter(wanted).collect();
        let consume = |ports| Consume { target: service.facts(teamspace), ports };
        (!ports.is_empty()).then(|| Reach::Service(consume(ports)))
    });
    let hosts = patterns.hosts().into_iter().map(|host| reach_external(host, teamspace));
    decide_each(caller, wanted.chain(hosts.map(Reach::Host)), facts)
}

pub(super) fn reach_external(host: &ExternalHost, teamspace: &TeamspaceFacts) -> ReachExternal {
    let target = HostFacts { teamspace: teamspace.clone(), host: host.clone() };
    ReachExternal { target }
}

/// Returns what permits let a session reach.
pub(super) fn granted_by<'p>(permits: impl IntoIterator<Item = &'p Permit<Reach>>) -> Granted {
    let mut granted = Granted::default();
    for permit in permits {
        match permit.action() {
            Reach::Service(Consume { target, ports }) => {
                let (service, ports) = (target.service.clone(), ports.clone());
                granted.services.push(GrantedService { service, ports, pods: Vec::new() });
            }
            Reach::Host(ReachExternal { target }) => granted.hosts.push(target.host.clone()),
        }
    }
    granted
}

/// Lists the services that the words brought: allowed, or refused with a reason.
fn reached<'d>(
    permits: &'d Permits<Reach>,
    refused: &'d [Refused<Reach>],
) -> Vec<(&'d ServiceRef, &'d [ServicePort])> {
    let allowed = permits.iter().map(Permit::action);
    let actions = allowed.chain(refused.iter().map(|refused| &refused.action));
    let service = |action: &'d Reach| match action {
        Reach::Service(Consume { target, ports }) => Some((&target.service, &ports[..])),
        Reach::Host(_) => None,
    };
    actions.filter_map(service).collect()
}

/// Says of each word about services that brought nothing why, as far as the caller may know it. One about a host is
/// always decided.
fn unmatched(
    patterns: &Patterns,
    reached: &[(&ServiceRef, &[ServicePort])],
    catalogue: &[Service],
    mut may_see: impl FnMut(&Service) -> bool,
) -> Vec<Unmatched> {
    let names = |pattern: &Pattern, port: ServicePort| {
        pattern.port().is_none_or(|named| named == port.port)
    };
    let brought = |pattern: &&Pattern| {
        reached.iter().any(|(service, ports)| {
            pattern.covers(service) && ports.iter().any(|port| names(pattern, *port))
        })
    };
    let is_wanted = |word: &&Pattern| !word.excludes() && word.host().is_none();
    let words: Vec<_> = patterns.iter().filter(is_wanted).filter(|word| !brought(word)).collect();
    if words.is_empty() {
        return Vec::new();
    }
    let seen: Vec<Service> = catalogue.iter().filter(|s| may_see(s)).cloned().collect();
    let mut unmatched = Vec::new();
    for pattern in words {
        let mut covered = seen.iter().filter(|service| pattern.covers(&service.service));
        // What an exclusion took away is no slip of the pen.
        if covered.clone().any(|s| s.consumable_ports().any(|port| names(pattern, port))) {
            continue;
        }
        unmatched.push(match (pattern.names_one(), covered.next()) {
            (Some(_), Some(service)) => without_that_port(pattern, service),
            (_, _) => Unmatched {
                pattern: pattern.clone(),
                reason: format!("no service that you may see matches `{pattern}`"),
                similar: pattern.service_name().map_or_else(Vec::new, |name| {
                    let seen = seen.iter().map(|service| &service.service);
                    let near = similar(pattern.namespace(), name, seen);
                    near.iter().map(ToString::to_string).collect()
                }),
            },
        });
    }
    unmatched
}

fn without_that_port(pattern: &Pattern, service: &Service) -> Unmatched {
    let ports: Vec<_> = service.consumable_ports().map(|port| port.to_string()).collect();
    let reason = match pattern.port() {
        Some(port) if !ports.is_empty() => {
            format!("`{}` has no port {port}, it has {}", service.service, ports.join(", "))
        }
        _ => format!("`{}` has no port at all", service.service),
    };
    Unmatched { pattern: pattern.clone(), reason, similar: Vec::new() }
}

/// Says why there is nothing to consume: refused, or not there.
async fn none_allowed(
    hub: &Hub,
    caller: &Caller,
    teamspace: &Teamspace,
    refused: Vec<Refused<Reach>>,
    unmatched: &[Unmatched],
) -> ActionError {
    if let Some(first) = refused.into_iter().next() {
        return hub.refusal(caller, &first.action.in_words(), first.denied).await;
    }
    let reasons: Vec<_> = unmatched.iter().map(|word| word.reason.as_str()).collect();
    let what = match reasons[..] {
        [] => "the exclusions leave no service".to_owned(),
        _ => reasons.join("; "),
    };
    let near: Vec<_> =
        unmatched.iter().flat_map(|word| &word.similar).map(|name| format!("`{name}`")).collect();
    ActionError::NotFound {
        message: format!("in teamspace `{}`: {what}", teamspace.name),
        hint: (!near.is_empty()).then(|| format!("similar: {}", near.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use fairlead_model::{Port, Protocol};
    use hub_store::PortOfService;

    use super::*;

    fn service(name: &str, ports: &[u16]) -> Service {
        let port = |number: &u16| PortOfService {
            name: String::new(),
            port: Port::new(*number).expect("not 0"),
            protocol: Protocol::Tcp,
            target_port: "8080".to_owned(),
            app_protocol: String::new(),
        };
        Service {
            service: name.parse().expect("a service"),
            kind: "ClusterIP".to_owned(),
            ports: ports.iter().map(port).collect(),
            workload: None,
            ready_endpoints: 1,
            labels: BTreeMap::new(),
            intercept_refusal: None,
            pods: Vec::new(),
        }
    }

    /// Asks with nothing reached, in a catalogue whose `secret` namespace may not be seen.
    fn reasons(words: &[&str]) -> Vec<(String, Vec<String>)> {
        let patterns = Patterns::new(words.iter().map(|w| w.parse().expect("valid")).collect());
        let catalogue =
            [service("shop/cart", &[80]), service("shop/dns", &[]), service("secret/plan", &[80])];
        let may_see = |service: &Service| service.service.namespace.as_str() != "secret";
        let unmatched = unmatched(&patterns.expect("some wanted"), &[], &catalogue, may_see);
        unmatched.into_iter().map(|word| (word.reason, word.similar)).collect()
    }

    #[test]
    fn a_wrong_port_is_told_from_a_wrong_name() {
        assert_eq!(reasons(&["shop/cart:9999"])[0].0, "`shop/cart` has no port 9999, it has 80");
        assert_eq!(reasons(&["shop/dns"])[0].0, "`shop/dns` has no port at all");
        for word in ["shop/crat", "*/crat"] {
            let [(reason, similar)] = &reasons(&[word])[..] else { panic!("one word") };
            assert_eq!(reason, &format!("no service that you may see matches `{word}`"));
            assert_eq!(similar, &["shop/cart"]);
        }
    }

    #[test]
    fn what_may_not_be_seen_is_neither_named_nor_similar() {
        for word in [
            "secret/plan",
            "secret/plan:9999",
            "secret/plam",
            "secret/*",
            "*/plan",
            "*/plam",
            "*/*:9999",
        ] {
            let [(reason, similar)] = &reasons(&[word])[..] else { panic!("{word}: one word") };
            assert_eq!(reason, &format!("no service that you may see matches `{word}`"));
            assert!(similar.is_empty(), "{word}: {similar:?}");
        }
    }

    #[test]
    fn what_was_reached_or_excluded_is_no_slip() {
        assert!(reasons(&["shop/cart", "!shop/cart"]).is_empty());
        assert!(reasons(&["+db.example.net:5432"]).is_empty(), "it is decided, not looked for");
        let patterns: Vec<Pattern> =
            ["shop/cart", "shop/cart:81"].map(|w| w.parse().expect("valid")).into();
        let cart = service("shop/cart", &[80]);
        let port = [ServicePort::tcp(Port::new(80).expect("not 0"))];
        let words = unmatched(
            &Patterns::new(patterns).expect("some wanted"),
            &[(&cart.service, &port)],
            std::slice::from_ref(&cart),
            |_| true,
        );
        assert_eq!(words.len(), 1);
        assert_eq!(words[0].reason, "`shop/cart` has no port 81, it has 80");
    }
}
