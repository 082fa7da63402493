//! `fairlead list` and `fairlead intercept list`.

use std::collections::{BTreeMap, BTreeSet};

use fairlead_model::{InterceptPort, Patterns, ServiceRef, SessionKind};
use laptop_ipc::daemon::Session;
use serde::Serialize;

use super::{Context, consume::counted};
use crate::{errors::CliError, output::Shown, table::table};

/// More lines than this about one session are not read.
const REFUSALS_SHOWN: usize = 10;

#[derive(Serialize)]
#[serde(transparent)]
struct Sessions(Vec<Session>);

impl Shown for Sessions {
    fn to_text(&self) -> String {
        sessions_text(&self.0)
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct Intercepts(Vec<Session>);

impl Shown for Intercepts {
    fn to_text(&self) -> String {
        if self.0.is_empty() {
            "Nothing is intercepted.".to_owned()
        } else {
            sessions_text(&self.0)
        }
    }
}

pub(super) async fn all(context: &Context<'_>) -> Result<(), CliError> {
    context.output.show(&Sessions(context.parts.status().await?.sessions))
}

pub(super) async fn intercepts(context: &Context<'_>) -> Result<(), CliError> {
    let mut sessions = context.parts.status().await?.sessions;
    sessions.retain(|session| session.kind == SessionKind::Intercept);
    context.output.show(&Intercepts(sessions))
}

/// Returns the table of sessions, and below it what there is to say about each.
pub(super) fn sessions_text(sessions: &[Session]) -> String {
    let consumes = sessions.iter().filter(|session| session.kind == SessionKind::Consume);
    let teamspaces: BTreeSet<_> = consumes.map(|session| session.teamspace.id).collect();
    let are_several = teamspaces.len() > 1;
    let rows = sessions.iter().map(|session| {
        [
            session.id.to_string(),
            session.kind.to_string(),
            session.wanted.join(" "),
            session.phase.to_string(),
            where_to(session),
            by_which_ways(session),
            teamspace(session, are_several),
        ]
    });
    let headings = ["SESSION", "KIND", "WHAT", "PHASE", "WHERE", "CARRIERS", "TEAMSPACE"];
    let mut text = table(headings, rows, "No sessions.");
    text.extend(sessions.iter().map(|session| about(session, sessions)));
    text
}

/// Of several teamspaces, says which one has the cluster's names.
fn teamspace(session: &Session, are_several: bool) -> String {
    let name = &session.teamspace.name;
    if are_several && session.is_home { format!("{name} (home)") } else { name.clone() }
}

fn where_to(session: &Session) -> String {
    let mapping = |p: &InterceptPort| format!("{} -> localhost:{}", p.service_port, p.laptop_port);
    match session.kind {
        SessionKind::Consume => counted(&session.services),
        SessionKind::Intercept => session.ports.iter().map(mapping).collect::<Vec<_>>().join(", "),
    }
}

/// Says how many carriers there are by which way: `2 raw`, or `1 wss through proxy proxy.corp:3128`.
fn by_which_ways(session: &Session) -> String {
    let mut counted = BTreeMap::<String, usize>::new();
    for path in &session.paths {
        *counted.entry(path.to_string()).or_default() += 1;
    }
    let ways: Vec<_> = counted.iter().map(|(way, carriers)| format!("{carriers} {way}")).collect();
    if ways.is_empty() { "-".to_owned() } else { ways.join(", ") }
}

/// Says why a session is in its phase, which of its services were not reached, and which this laptop takes the place of.
fn about(session: &Session, all: &[Session]) -> String {
    let detail = session.detail.as_deref().unwrap_or_default();
    let refusals = session.services.iter().filter_map(|reached| reached.refusal.as_deref());
    let refusals: Vec<&str> = refusals.filter(|refusal| !detail.contains(refusal)).collect();
    let mut lines: Vec<String> = [detail]
        .into_iter()
        .chain(refusals.iter().copied())
        .filter(|line| !line.is_empty())
        .take(REFUSALS_SHOWN)
        .map(|line| format!("  {line}\n"))
        .collect();
    if refusals.len() > REFUSALS_SHOWN {
        lines.push(format!(
            "  and {} more: fairlead list -o json\n",
            refusals.len() - REFUSALS_SHOWN
        ));
    }
    lines.extend(
        own(session, all).map(|service| {
            format!("  {service} has no name here while this laptop intercepts it\n")
        }),
    );
    let hint = session.failure.as_ref().and_then(|failure| failure.hint.as_ref());
    lines.extend(hint.map(|hint| format!("  hint: {hint}\n")));
    if lines.is_empty() {
        return String::new();
    }
    format!("\n{} {}\n{}", session.kind, session.wanted.join(" "), lines.concat())
}

/// Returns the services of a consume that this laptop itself intercepts.
fn own(consume: &Session, all: &[Session]) -> impl Iterator<Item = ServiceRef> {
    let words = consume.wanted.iter().filter_map(|word| word.parse().ok()).collect();
    let patterns =
        (consume.kind == SessionKind::Consume).then(|| Patterns::new(words).ok()).flatten();
    let of_same = |session: &&Session| {
        session.kind == SessionKind::Intercept && session.teamspace.id == consume.teamspace.id
    };
    let services = all.iter().filter(of_same).flat_map(|session| &session.wanted);
    let services = services.filter_map(|service| service.parse().ok());
    services
        .filter(move |service| patterns.as_ref().is_some_and(|words| words.want_some_of(service)))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use fairlead_model::{
        CarrierPath, HostName, Phase, ServiceRef, SessionId, TeamspaceId, Transport,
    };
    use laptop_ipc::daemon::{Reached, Teamspace};

    use super::*;

    fn reached(service: &str, refusal: Option<&str>) -> Reached {
        Reached {
            callee: service.parse::<ServiceRef>().expect("valid").into(),
            name: "cart.shop".to_owned(),
            address: Ipv4Addr::new(127, 72, 1, 2),
            ports: vec!["80".parse().expect("a port")],
            remapped: Vec::new(),
            refusal: refusal.map(str::to_owned),
        }
    }

    fn path(transport: Transport) -> CarrierPath {
        CarrierPath { transport, proxy: Some("p:1".to_owned()) }
    }

    #[test]
    fn why_a_service_was_not_reached_stands_below_the_table_once() {
        let session = Session {
            id: SessionId::generate(),
            kind: SessionKind::Consume,
            teamspace: Teamspace { id: TeamspaceId::generate(), name: "staging".to_owned() },
            phase: Phase::Preparing,
            detail: Some("shop/cart has no pods (and 1 more do not answer)".to_owned()),
            failure: None,
            wanted: vec!["shop/*".to_owned()],
            services: vec![
                reached("shop/cart", Some("shop/cart has no pods")),
                reached("shop/pay", Some("shop/pay: a NetworkPolicy keeps the agent out")),
                reached("shop/web", None),
                Reached {
                    callee: "db.example.net".parse::<HostName>().expect("valid").into(),
                    ..reached("shop/web", None)
                },
            ],
            is_home: true,
            of_program: false,
            ports: Vec::new(),
            carriers: 3,
            paths: vec![path(Transport::Wss), path(Transport::Raw), path(Transport::Wss)],
        };
        let text = sessions_text(&[session]);
        assert_eq!(text.matches("shop/cart has no pods").count(), 1, "{text}");
        assert!(text.contains(" 3 services and 1 host outside "), "{text}");
        assert!(text.contains(" 1 raw through proxy p:1, 2 wss through proxy p:1 "), "{text}");
        assert!(
            text.ends_with(
                "\nconsume shop/*\n  shop/cart has no pods (and 1 more do not answer)\n  \
             shop/pay: a NetworkPolicy keeps the agent out\n"
            ),
            "{text}"
        );
    }

    fn active(teamspace: &str, words: &[&str]) -> Session {
        Session {
            id: SessionId::generate(),
            kind: SessionKind::Consume,
            teamspace: Teamspace { id: TeamspaceId::generate(), name: teamspace.to_owned() },
            phase: Phase::Active,
            detail: None,
            failure: None,
            wanted: words.iter().map(|word| (*word).to_owned()).collect(),
            services: Vec::new(),
            is_home: true,
            of_program: false,
            ports: Vec::new(),
            carriers: 0,
            paths: Vec::new(),
        }
    }

    #[test]
    fn a_service_that_this_laptop_intercepts_is_missing_for_a_reason() {
        let consume = active("staging", &["shop/*", "!shop/pay"]);
        let intercept = |service: &str, of: &Session| Session {
            kind: SessionKind::Intercept,
            teamspace: of.teamspace.clone(),
            ..active("", &[service])
        };
        let others = [
            intercept("shop/cart", &consume),
            intercept("shop/pay", &consume),
            intercept("pay/api", &consume),
            intercept("shop/web", &active("prod", &[])),
        ];
        let text = sessions_text(&[std::slice::from_ref(&consume), &others].concat());
        let expected = "\nconsume shop/* !shop/pay\n  shop/cart has no name here while this laptop intercepts it\n";
        assert!(text.ends_with(expected), "{text}");
    }

    #[test]
    fn of_several_teamspaces_one_is_at_home() {
        let of = |name: &str, is_home| Session { is_home, ..active(name, &["shop/*"]) };
        let both = [of("staging", true), of("prod", false)];
        let text = sessions_text(&both);
        assert!(text.contains("staging (home)") && !text.contains("prod (home)"), "{text}");
        assert!(!sessions_text(&both[..1]).contains("(home)"), "there is nothing to tell apart");
    }
}
