//! `fairlead trace URL|NAMESPACE/SERVICE|HOST:PORT`: one connection, followed from this laptop to the service and back.
//!
//! The hops between the redirect and the service are the daemon's to try. Of a service that has no session here, the hub
//! says whether it could have one.

use std::net::Ipv4Addr;

use fairlead_model::{Port, ServicePort, similar};
use laptop_account::ServiceView;
use laptop_ipc::{
    FailureKind,
    daemon::{Answer, Request, Teamspace},
    trace::{Hop, Outcome, Place, Wish},
};
use serde::Serialize;

use super::{Context, teamspace};
use crate::{
    args::OfTeamspace,
    errors::CliError,
    hops,
    output::Shown,
    parts::unexpected,
    table::table,
    traced::{self, Here, Traced, Words},
};

/// Asked for where neither the words nor the hub name a port.
const HTTP: ServicePort = ServicePort::tcp(Port::new(80).expect("not 0"));

#[derive(Debug, Serialize)]
struct Trace {
    service: String,
    teamspace: String,
    hops: Vec<Hop>,
}

impl Shown for Trace {
    fn to_text(&self) -> String {
        let row = |hop: &Hop| [hop.hop.as_str().into(), went(&hop.outcome), hop.message.clone()];
        table(["HOP", "      TIME", "WHAT"], self.hops.iter().map(row), "No hops.")
    }
}

/// Says how a hop went, so that figures stand one below the other.
fn went(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Passed { took_us: Some(us) } => {
            format!("{:>4}.{:02} ms", us / 1000, us % 1000 / 10)
        }
        Outcome::Passed { took_us: None } => format!("{:>10}", "ok"),
        Outcome::Failed { .. } => format!("{:>10}", "FAILED"),
        Outcome::NotTried => format!("{:>10}", "-"),
    }
}

/// A service with what is known of it before the daemon is asked.
struct Followed {
    wish: Wish,
    teamspace: Teamspace,
    name: Hop,
    /// Where programs connect to it.
    address: Option<Ipv4Addr>,
}

pub(super) async fn run(
    context: &Context<'_>,
    traced: &Traced,
    of: OfTeamspace,
) -> Result<(), CliError> {
    let status = context.parts.status().await?;
    let Followed { wish, teamspace, name, address } =
        match traced::find(&status, traced, of.teamspace.as_deref()) {
            Some(here) => followed_here(here).await?,
            None => followed_elsewhere(context, traced, of).await?,
        };
    let service = format!("{}:{}", wish.callee, wish.port);
    let mut hops = vec![name];
    hops.extend(of_the_daemon(context, wish).await?);
    if let Traced::Url(url) = traced {
        hops.push(match address {
            Some(address) if gets_there(&hops) => hops::answer(url, address).await,
            _ => Hop::not_tried(Place::Answer, "no connection gets there"),
        });
    }
    let verdict = verdict(&service, &hops);
    context.output.show(&Trace { service, teamspace: teamspace.name, hops })?;
    verdict
}

async fn followed_here(here: Here) -> Result<Followed, CliError> {
    let Here { teamspace, callee, port, ports, name } = here;
    let (name, address) = match name {
        Some((name, address)) => (hops::name(&name, address).await, Some(address)),
        None => (Hop::not_tried(Place::Name, "you intercept it, so it has no name here"), None),
    };
    let port = port.unwrap_or(HTTP);
    if address.is_some() && !ports.contains(&port) {
        let listed = ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let message = format!("you do not reach port {port} of {callee}");
        return Err(CliError::new(FailureKind::NotFound, message, format!("you reach {listed}")));
    }
    let wish = Wish { teamspace: teamspace.id, callee, port };
    Ok(Followed { wish, teamspace, name, address })
}

async fn followed_elsewhere(
    context: &Context<'_>,
    traced: &Traced,
    of: OfTeamspace,
) -> Result<Followed, CliError> {
    if let Traced::Host(host) = traced {
        let message = format!("you do not reach {host}");
        let hint = format!("reach it: fairlead consume --also {host}");
        return Err(CliError::new(FailureKind::NotFound, message, hint));
    }
    let Some(words) = traced.words() else {
        let message = "no service that you reach has this name";
        let hint =
            "see the names: fairlead consume list; of another service write NAMESPACE/SERVICE";
        return Err(CliError::new(FailureKind::NotFound, message, hint));
    };
    let hub = context.hub()?;
    let of = OfTeamspace { teamspace: of.teamspace.or_else(|| words.teamspace.clone()) };
    let teamspace = teamspace::meant(&hub, of).await?;
    let services = hub.services(teamspace.id).await?;
    let name = not_reached(&words, &services, &teamspace.name);
    let port = words.port.or_else(|| first_port(&words, &services)).unwrap_or(HTTP);
    let wish = Wish { teamspace: teamspace.id, callee: words.service.into(), port };
    Ok(Followed { wish, teamspace, name, address: None })
}

fn view<'s>(words: &Words, services: &'s [ServiceView]) -> Option<&'s ServiceView> {
    let wanted = &words.service;
    services.iter().find(|s| s.namespace == wanted.namespace && s.name == wanted.name)
}

fn first_port(words: &Words, services: &[ServiceView]) -> Option<ServicePort> {
    let ports = view(words, services)?.ports.iter();
    let first = ports.min_by_key(|port| !port.is_tcp())?;
    let of = if first.is_tcp() { ServicePort::tcp } else { ServicePort::udp };
    Some(of(first.port))
}

/// Says why a service has no name here: it is not there, or not for the caller, or not wanted.
fn not_reached(words: &Words, services: &[ServiceView], teamspace: &str) -> Hop {
    let service = &words.service;
    let (kind, message, advice) = match view(words, services) {
        None => {
            let seen: Vec<_> = services.iter().map(ServiceView::service).collect();
            let near = similar(Some(&service.namespace), &service.name, &seen);
            let near: Vec<_> = near.iter().map(ToString::to_string).collect();
            let advice = match near.is_empty() {
                true => format!("see what there is: fairlead services {}", service.namespace),
                false => format!("there is {}", near.join(", ")),
            };
            let message =
                format!("teamspace `{teamspace}` has no service {service} that you may see");
            (FailureKind::NotFound, message, advice)
        }
        Some(view) if !view.may.consume => (
            FailureKind::Denied,
            format!("you may not consume {service} of teamspace `{teamspace}`"),
            format!("hear which policy decides: fairlead consume {service}"),
        ),
        Some(_) => (
            FailureKind::NotFound,
            format!("you do not consume {service} of teamspace `{teamspace}`"),
            format!("reach it: fairlead consume -t {teamspace} {service}"),
        ),
    };
    Hop::failed(Place::Name, kind, message, advice)
}

async fn of_the_daemon(context: &Context<'_>, wish: Wish) -> Result<Vec<Hop>, CliError> {
    match context.parts.ask_daemon(Request::Trace(wish)).await? {
        Answer::Traced { hops } => Ok(hops),
        other => Err(unexpected(&other)),
    }
}

/// Says whether a request could be answered. Without the hub it could: carriers go on.
fn gets_there(hops: &[Hop]) -> bool {
    let is_broken = |hop: &Hop| matches!(hop.outcome, Outcome::Failed { .. });
    !hops.iter().any(|hop| hop.hop != Place::Hub && is_broken(hop))
}

/// Names the first hop that fails.
fn verdict(service: &str, hops: &[Hop]) -> Result<(), CliError> {
    let failed = hops.iter().find_map(|hop| match &hop.outcome {
        Outcome::Failed { kind, advice } => Some((hop, *kind, advice)),
        Outcome::Passed { .. } | Outcome::NotTried => None,
    });
    let Some((hop, kind, advice)) = failed else { return Ok(()) };
    let place = hop.hop.as_str();
    let message = format!("the way to {service} fails at its hop `{place}`: {}", hop.message);
    Err(CliError::new(kind, message, advice))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn passed(hop: Place) -> Hop {
        Hop::passed(hop, Some(Duration::from_micros(1_239)), "it does")
    }

    fn failed(hop: Place) -> Hop {
        Hop::failed(hop, FailureKind::Unproven, "it does not", "try again")
    }

    #[test]
    fn the_hops_are_a_table_with_figures_below_each_other() {
        let hops = vec![
            passed(Place::Name),
            failed(Place::Hub),
            Hop::not_tried(Place::Agent, "nobody asks it"),
            Hop::passed(Place::Service, None, "it does"),
            Hop::passed(Place::Answer, Some(Duration::from_secs(2)), "it does"),
        ];
        let trace =
            Trace { service: "shop/cart:80".to_owned(), teamspace: "staging".to_owned(), hops };
        let expected = "\
HOP            TIME  WHAT
name        1.23 ms  it does
hub          FAILED  it does not
agent             -  nobody asks it
service          ok  it does
answer   2000.00 ms  it does
";
        assert_eq!(trace.to_text(), expected);
        let json = serde_json::to_value(&trace).expect("plain");
        assert_eq!(json["hops"][0]["state"], "passed");
        assert_eq!(json["hops"][0]["took_us"], 1_239);
    }

    #[test]
    fn the_first_hop_that_fails_is_named() {
        let hops = [passed(Place::Name), failed(Place::Agent), failed(Place::Service)];
        let said = verdict("shop/cart:80", &hops).expect_err("it fails").to_string();
        assert_eq!(said, "the way to shop/cart:80 fails at its hop `agent`: it does not");
        verdict("shop/cart:80", &hops[..1]).expect("it passes");
    }

    #[test]
    fn a_request_needs_the_way_but_not_the_hub() {
        assert!(gets_there(&[passed(Place::Name), failed(Place::Hub), passed(Place::Agent)]));
        assert!(!gets_there(&[failed(Place::Redirect), passed(Place::Hub)]));
    }

    #[test]
    fn what_is_not_reached_is_said_with_what_to_do() {
        let mut services: Vec<ServiceView> = serde_json::from_value(serde_json::json!([
            { "namespace": "shop", "name": "cart", "type": "ClusterIP",
              "ports": [{ "port": 53, "protocol": "UDP" }, { "port": 81 }],
              "may": { "consume": true, "intercept": false } },
            { "namespace": "shop", "name": "pay", "type": "ClusterIP", "ports": [],
              "may": { "consume": false, "intercept": false } },
        ]))
        .expect("services");
        for (service, kind, said) in [
            ("shop/cart", FailureKind::NotFound, "fairlead consume -t staging shop/cart"),
            ("shop/pay", FailureKind::Denied, "which policy decides"),
            ("shop/crat", FailureKind::NotFound, "there is shop/cart"),
            ("shop/ledger", FailureKind::NotFound, "fairlead services shop"),
            ("other/cart", FailureKind::NotFound, "there is shop/cart"),
        ] {
            let words = service.parse::<Traced>().expect("valid").words().expect("a service");
            let Outcome::Failed { kind: found, advice } =
                not_reached(&words, &services, "staging").outcome
            else {
                panic!("{service}: it is not reached");
            };
            assert!(found == kind && advice.contains(said), "{service}: {found:?} {advice}");
        }
        let cart = "shop/cart".parse::<Traced>().expect("valid").words().expect("a service");
        let first =
            |services: &[ServiceView]| first_port(&cart, services).map(|port| port.to_string());
        assert_eq!(first(&services).as_deref(), Some("81"));
        services[0].ports.truncate(1);
        assert_eq!(first(&services).as_deref(), Some("53/udp"));
    }
}
