//! `fairlead intercept NS/SVC[:PORT] LAPTOP_PORT…`.
//!
//! What is said here is how the words are meant. Whether there is such a service, with such a port, the hub answers.

use std::time::Duration;

use fairlead_model::{InterceptPort, Port, ServiceRef, TeamspaceId};
use laptop_account::{Hub, ServicePortView};
use laptop_ipc::{FailureKind, daemon::Request};

use super::{
    Context,
    proof::{self, Begun, PROOF_MAX},
    teamspace,
};
use crate::{args::OfTeamspace, errors::CliError, target::Target};

/// Long enough to hear a refusal.
const UNPROVEN_MAX: Duration = Duration::from_secs(2);

pub(super) async fn begin(
    context: &Context<'_>,
    target: &Target,
    ports: &[String],
    of: OfTeamspace,
) -> Result<(), CliError> {
    let hub = context.hub()?;
    let teamspace = teamspace::meant(&hub, of).await?;
    let known = if names_every_port(target, ports) {
        Vec::new()
    } else {
        tcp_ports(&hub, teamspace.id, &target.service).await?
    };
    let ports = mapped(target, ports, &known)?;

    let request = Request::Intercept {
        hub: hub.account().hub().to_string(),
        teamspace,
        service: target.service.clone(),
        ports,
    };
    let Begun { session, warnings, notes, .. } = proof::begin(context, request).await?;
    // While nothing listens there is nothing to prove; that much was said.
    let is_provable = warnings.is_empty();
    let patience = if is_provable { PROOF_MAX } else { UNPROVEN_MAX };
    for warning in warnings {
        context.output.warn(warning);
    }
    for note in notes {
        context.output.say(note);
    }
    let session = proof::wait(context, session, patience).await?;
    if is_provable {
        proof::must_be_proven(&session)?;
    }
    for InterceptPort { service_port, laptop_port } in &session.ports {
        context.output.say(format!(
            "{}:{service_port} comes to localhost:{laptop_port} ({}).",
            target.service, session.phase
        ));
    }
    context.output.say(format!("Give it back: fairlead leave {}", target.service));
    Ok(())
}

fn names_every_port(target: &Target, words: &[String]) -> bool {
    target.port.is_some() || words.iter().all(|word| word.contains(':'))
}

/// Returns the ports among which a service's only one is found; none of a service that is not there.
async fn tcp_ports(
    hub: &Hub,
    teamspace: TeamspaceId,
    service: &ServiceRef,
) -> Result<Vec<Port>, CliError> {
    let services = hub.services(teamspace).await?.into_iter();
    let ports = services
        .filter(|s| s.namespace == service.namespace && s.name == service.name)
        .flat_map(|service| service.ports);
    Ok(ports.filter(ServicePortView::is_tcp).map(|port| port.port).collect())
}

/// Says which port of the service goes to which port of this laptop: none where none can be meant.
fn mapped(
    target: &Target,
    words: &[String],
    known: &[Port],
) -> Result<Vec<InterceptPort>, CliError> {
    let service = &target.service;
    let input = |message: String| {
        let example = target.port.or(known.first().copied()).map_or(80, Port::get);
        let listed = known.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let listed = match known {
            [] => listed,
            [_] => format!("{service} has port {listed}: "),
            _ => format!("{service} has ports {listed}: "),
        };
        let hint = format!("{listed}fairlead intercept {service} 3000:{example}");
        CliError::new(FailureKind::Input, message, hint)
    };
    let mut mapped: Vec<InterceptPort> = Vec::new();
    for word in words {
        let port = match (word.contains(':'), target.port, known) {
            (true, None, _) => word
                .parse()
                .map_err(|e: fairlead_model::InvalidInterceptPort| input(e.to_string()))?,
            (true, Some(_), _) => {
                return Err(input(format!(
                    "the service's port is named twice: `{target}` and `{word}`",
                    target = service
                )));
            }
            (false, Some(service_port), _) => {
                InterceptPort { service_port, laptop_port: laptop(word, input)? }
            }
            (false, None, [only]) => {
                InterceptPort { service_port: *only, laptop_port: laptop(word, input)? }
            }
            (false, None, []) => {
                laptop(word, input)?;
                continue;
            }
            (false, None, _) => return Err(input(format!("which port of {service}?"))),
        };
        mapped.push(port);
    }
    Ok(mapped)
}

fn laptop(word: &str, input: impl Fn(String) -> CliError) -> Result<Port, CliError> {
    word.parse().map_err(|error: fairlead_model::InvalidPort| input(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(number: u16) -> Port {
        Port::new(number).expect("not 0")
    }

    fn map(target: &str, words: &[&str], known: &[u16]) -> Result<Vec<(u16, u16)>, String> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let known: Vec<Port> = known.iter().map(|number| port(*number)).collect();
        let mapped = mapped(&target.parse().expect("valid"), &words, &known);
        let pair = |p: InterceptPort| (p.service_port.get(), p.laptop_port.get());
        mapped.map(|ports| ports.into_iter().map(pair).collect()).map_err(|error| error.to_string())
    }

    #[test]
    fn the_only_port_needs_no_name() {
        assert_eq!(map("shop/cart", &["3000"], &[80]), Ok(vec![(80, 3000)]));
        assert_eq!(map("shop/cart:81", &["3000"], &[80, 81]), Ok(vec![(81, 3000)]));
        assert_eq!(
            map("shop/cart", &["3000:80", "3001:81"], &[80, 81]),
            Ok(vec![(80, 3000), (81, 3001)])
        );
    }

    #[test]
    fn what_is_not_there_is_for_the_hub_to_say() {
        assert_eq!(map("shop/cart", &["3000"], &[]), Ok(vec![]));
        assert_eq!(map("shop/cart:82", &["3000"], &[80, 81]), Ok(vec![(82, 3000)]));
        assert_eq!(map("shop/cart", &["3000:82"], &[]), Ok(vec![(82, 3000)]));
    }

    #[test]
    fn what_is_ambiguous_or_wrong_says_so() {
        for (target, words, known, expected) in [
            ("shop/cart", &["3000"][..], &[80, 81][..], "which port"),
            ("shop/cart:80", &["3000:80"], &[80], "named twice"),
            ("shop/cart", &["web"], &[80], "not a port"),
            ("shop/cart", &["web"], &[], "not a port"),
        ] {
            let error = map(target, words, known).expect_err(expected);
            assert!(error.contains(expected), "{error}");
        }
    }
}
