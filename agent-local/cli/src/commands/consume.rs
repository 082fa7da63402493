//! `fairlead consume PATTERN…|list|clear`.

use fairlead_model::{Callee, InvalidPattern, Pattern, Patterns, Phase, ServicePort, SessionKind};
use laptop_ipc::{
    FailureKind,
    daemon::{Reached, Refused, Request, Session, Teamspace},
};
use serde::Serialize;

use super::{
    Context,
    proof::{self, Begun, PROOF_MAX},
    teamspace,
};
use crate::{args::OfTeamspace, checks::hosts_file, errors::CliError, output::Shown, table::table};

#[derive(Serialize)]
#[serde(transparent)]
struct Consumed(Vec<Reached>);

impl Shown for Consumed {
    fn to_text(&self) -> String {
        let rows = self.0.iter().map(|reached| {
            let ports = reached.ports.iter().map(|port| here(reached, *port)).collect::<Vec<_>>();
            [
                reached
                    .callee
                    .service()
                    .map_or_else(|| reached.callee.to_string(), ToString::to_string),
                reached.name.clone(),
                ports.join(","),
                reached.address.to_string(),
            ]
        });
        let headings = ["SERVICE", "NAME", "PORTS", "ADDRESS"];
        let mut text = table(headings, rows, "Nothing is consumed.");
        let refusals = self.0.iter().filter_map(|reached| reached.refusal.as_ref());
        text.extend(refusals.map(|refusal| format!("\n{refusal}\n")));
        text
    }
}

/// Returns the port on this laptop, and which one it stands for.
fn here(reached: &Reached, port: ServicePort) -> String {
    let remapped = reached.remapped.iter().find(|remapped| remapped.port == port);
    let other = |number| ServicePort { port: number, ..port };
    remapped.map_or_else(
        || port.to_string(),
        |remapped| format!("{} (for {port})", other(remapped.laptop_port)),
    )
}

pub(super) async fn begin(
    context: &Context<'_>,
    patterns: Vec<Pattern>,
    may_remap: bool,
    of: OfTeamspace,
) -> Result<(), CliError> {
    let asked = patterns.clone();
    let checked = match Patterns::new(patterns) {
        // They are about what is consumed already.
        Err(InvalidPattern::OnlyExclusions) => None,
        checked => Some(checked.map_err(|error| invalid(&error))?),
    };
    let hub = context.hub()?;
    let teamspace = teamspace::meant(&hub, of).await?;
    let patterns = match checked {
        Some(patterns) => patterns,
        None => left(context.parts.status().await?.sessions, &teamspace, &asked)?,
    };
    let url = hub.account().hub().to_string();
    let request = Request::Consume { hub: url, teamspace, patterns, may_remap };
    let Begun { session, refused, warnings, notes: _ } = proof::begin(context, request).await?;
    warnings.iter().for_each(|warning| context.output.warn(warning));
    if let Some(warning) = hosts_file::lead_elsewhere(names_of(&session.services)) {
        context.output.warn(warning);
    }
    for refused in &refused {
        context.output.warn(format!("{} is left out: {}", refused.service, refused.reason));
    }
    let session = proof::wait(context, session, PROOF_MAX).await?;
    let proven = proof::must_be_proven(&session);
    if proven.is_ok() {
        context.output.say(format!(
            "{} of teamspace `{}` can be reached by name.",
            counted(&session.services),
            session.teamspace.name
        ));
    }
    if !session.is_home {
        let name = &session.teamspace.name;
        context.output.say(format!(
            "Another teamspace has the cluster's names; to give them to this one: fairlead teamspace use {name}"
        ));
    }
    let denied = must_bring_something(&asked, &session.services, &refused);
    context.output.show(&Consumed(session.services))?;
    denied.and(proven)
}

fn names_of(services: &[Reached]) -> impl Iterator<Item = &str> {
    services.iter().map(|reached| reached.name.as_str())
}

fn invalid(error: &InvalidPattern) -> CliError {
    let hint = "for example: fairlead consume 'shop/*' '!shop/payment'";
    CliError::new(FailureKind::Input, error.to_string(), hint)
}

/// Returns the words of what is consumed of this teamspace already, with these exclusions.
fn left(
    sessions: Vec<Session>,
    teamspace: &Teamspace,
    exclusions: &[Pattern],
) -> Result<Patterns, CliError> {
    let is_meant = |session: &Session| {
        session.kind == SessionKind::Consume
            && session.teamspace.id == teamspace.id
            && !session.of_program
            && !matches!(session.phase, Phase::Ended | Phase::Refused)
    };
    let Some(session) = sessions.into_iter().find(is_meant) else {
        return Err(invalid(&InvalidPattern::OnlyExclusions));
    };
    let words = session.wanted.iter().filter_map(|word| word.parse().ok());
    Patterns::without(words, exclusions).map_err(|_| {
        let message = "nothing would be left of what is consumed";
        CliError::new(FailureKind::Input, message, "to end it: fairlead consume clear")
    })
}

/// Beside what was consumed before, nothing of what was asked for may have come: a script has to hear that.
fn must_bring_something(
    asked: &[Pattern],
    services: &[Reached],
    refused: &[Refused],
) -> Result<(), CliError> {
    let brought = |word: &Pattern| match word.host() {
        Some(host) => services.iter().any(|reached| reached.callee == host.name.clone().into()),
        None => {
            services.iter().filter_map(|r| r.callee.service()).any(|service| word.covers(service))
        }
    };
    let wanted: Vec<_> = asked.iter().filter(|word| !word.excludes()).collect();
    match refused.first() {
        Some(first) if !wanted.is_empty() && !wanted.into_iter().any(brought) => {
            let hint = "what was consumed before stays: fairlead consume list";
            Err(CliError::new(FailureKind::Denied, first.reason.clone(), hint))
        }
        _ => Ok(()),
    }
}

/// Counts services, and hosts outside where there are any. The pods of a service are part of it.
pub(super) fn counted(all: &[Reached]) -> String {
    let services =
        all.iter().filter(|reached| matches!(reached.callee, Callee::InCluster { pod: None, .. }));
    let hosts = all.iter().filter(|reached| matches!(reached.callee, Callee::Outside { .. }));
    let services = match services.count() {
        1 => "1 service".to_owned(),
        n => format!("{n} services"),
    };
    match hosts.count() {
        0 => services,
        1 => format!("{services} and 1 host outside"),
        n => format!("{services} and {n} hosts outside"),
    }
}

pub(super) async fn list(context: &Context<'_>) -> Result<(), CliError> {
    let sessions = context.parts.status().await?.sessions.into_iter();
    let consumes = sessions.filter(|session| session.kind == SessionKind::Consume);
    let services: Vec<_> = consumes.flat_map(|Session { services, .. }| services).collect();
    if let Some(warning) = hosts_file::lead_elsewhere(names_of(&services)) {
        context.output.warn(warning);
    }
    context.output.show(&Consumed(services))
}

pub(super) async fn clear(
    context: &Context<'_>,
    teamspace: Option<String>,
) -> Result<(), CliError> {
    let Some(name) = teamspace else {
        context.parts.ask_daemon(Request::ConsumeClear { teamspace: None }).await?;
        context.output.say("Nothing is consumed any more.");
        return Ok(());
    };
    let sessions = context.parts.status().await?.sessions;
    let of = sessions.into_iter().map(|session| session.teamspace).find(|t| t.name == name);
    if let Some(Teamspace { id, .. }) = of {
        context.parts.ask_daemon(Request::ConsumeClear { teamspace: Some(id) }).await?;
    }
    context.output.say(format!("Nothing of teamspace `{name}` is consumed any more."));
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use fairlead_model::{HostName, ServiceRef, SessionId, TeamspaceId};

    use super::*;

    fn words(words: &[&str]) -> Vec<Pattern> {
        words.iter().map(|word| word.parse().expect("valid")).collect()
    }

    fn reached(callee: Callee) -> Reached {
        Reached {
            callee,
            name: "x".to_owned(),
            address: Ipv4Addr::new(127, 72, 1, 2),
            ports: Vec::new(),
            remapped: Vec::new(),
            refusal: None,
        }
    }

    #[test]
    fn exclusions_alone_are_about_what_is_consumed() {
        let teamspace = Teamspace { id: TeamspaceId::generate(), name: "staging".to_owned() };
        let session = |wanted: &[&str]| Session {
            id: SessionId::generate(),
            kind: SessionKind::Consume,
            teamspace: teamspace.clone(),
            phase: Phase::Active,
            detail: None,
            failure: None,
            wanted: wanted.iter().map(|word| (*word).to_owned()).collect(),
            services: Vec::new(),
            is_home: true,
            of_program: false,
            ports: Vec::new(),
            carriers: 1,
            paths: Vec::new(),
        };
        let left = |wanted: &[&str], exclusions: &[&str]| {
            let left = left(vec![session(wanted)], &teamspace, &words(exclusions))?;
            Ok::<_, CliError>(left.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        let stays = left(&["shop/crat", "shop/*", "+a.b:1"], &["!shop/crat", "!+a.b:1"]);
        assert_eq!(stays.expect("left"), ["!shop/crat", "!+a.b:1", "shop/*"]);
        let nothing = left(&["shop/cart"], &["!shop/cart"]).expect_err("nothing").to_string();
        assert_eq!(nothing, "nothing would be left of what is consumed");
        let of_program = Session { of_program: true, ..session(&["shop/*"]) };
        let none = super::left(vec![of_program], &teamspace, &words(&["!shop/cart"]));
        assert!(none.expect_err("none").to_string().starts_with("only exclusions"));
    }

    #[test]
    fn a_command_that_brings_nothing_and_is_refused_is_a_refusal() {
        let host = "a.example.net".parse::<HostName>().expect("valid");
        let services = [
            reached("shop/cart".parse::<ServiceRef>().expect("valid").into()),
            reached(host.into()),
        ];
        let refused = [Refused {
            service: "shop/pay".to_owned(),
            reason: "no policy allows it".to_owned(),
            policies: Vec::new(),
        }];
        let outcome = |asked: &[&str]| must_bring_something(&words(asked), &services, &refused);
        assert_eq!(outcome(&["shop/pay"]).expect_err("refused").to_string(), "no policy allows it");
        for fine in ["shop/*", "+a.example.net:1"] {
            outcome(&["shop/pay", fine]).expect(fine);
        }
        outcome(&["!shop/pay"]).expect("nothing was asked for");
        must_bring_something(&words(&["shop/crat"]), &services, &[]).expect("it may appear");
    }
}
