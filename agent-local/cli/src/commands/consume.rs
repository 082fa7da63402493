//! `fairlead consume PATTERN…|list|clear`.

use std::collections::HashSet;

use fairlead_model::{Pattern, Patterns, SessionKind};
use laptop_ipc::{
    FailureKind,
    daemon::{Reached, Request, Session},
};
use serde::Serialize;

use super::{
    Context,
    proof::{self, Begun, PROOF_MAX},
    teamspace,
};
use crate::{args::OfTeamspace, errors::CliError, output::Shown, table::table};

#[derive(Serialize)]
#[serde(transparent)]
struct Consumed(Vec<Reached>);

impl Shown for Consumed {
    fn to_text(&self) -> String {
        let rows = self.0.iter().map(|reached| {
            let ports = reached.ports.iter().map(ToString::to_string).collect::<Vec<_>>();
            let name = format!("{}.{}", reached.service.name, reached.service.namespace);
            [reached.service.to_string(), name, ports.join(","), reached.address.to_string()]
        });
        let headings = ["SERVICE", "NAME", "PORTS", "ADDRESS"];
        let mut text = table(headings, rows, "Nothing is consumed.");
        let refusals = self.0.iter().filter_map(|reached| reached.refusal.as_ref());
        text.extend(refusals.map(|refusal| format!("\n{refusal}\n")));
        text
    }
}

pub(super) async fn begin(
    context: &Context<'_>,
    patterns: Vec<Pattern>,
    of: OfTeamspace,
) -> Result<(), CliError> {
    let patterns = Patterns::new(patterns).map_err(|error| {
        let hint = "for example: fairlead consume 'shop/*' '!shop/payment'";
        CliError::new(FailureKind::Input, error.to_string(), hint)
    })?;
    let hub = context.hub()?;
    let teamspace = teamspace::meant(&hub, of).await?;
    let url = hub.account().hub().to_string();
    let request = Request::Consume { hub: url, teamspace, patterns };
    let Begun { session, refused, warnings, notes: _ } = proof::begin(context, request).await?;
    warnings.iter().for_each(|warning| context.output.warn(warning));
    for refused in refused {
        context.output.warn(format!("{} is left out: {}", refused.service, refused.reason));
    }
    let session = proof::wait(context, session, PROOF_MAX).await?;
    let proven = proof::must_be_proven(&session);
    if proven.is_ok() {
        context.output.say(format!(
            "{} of teamspace `{}` can be reached by name.",
            counted(session.services.len()),
            session.teamspace.name
        ));
    }
    context.output.show(&Consumed(session.services))?;
    proven
}

fn counted(services: usize) -> String {
    match services {
        1 => "1 service".to_owned(),
        n => format!("{n} services"),
    }
}

pub(super) async fn list(context: &Context<'_>) -> Result<(), CliError> {
    let sessions = context.parts.status().await?.sessions.into_iter();
    let consumes = sessions.filter(|session| session.kind == SessionKind::Consume);
    let services = consumes.flat_map(|Session { services, .. }| services);
    context.output.show(&Consumed(each_once(services.collect())))
}

/// Lists a service once, though a consume that is not proven yet stands beside the one before it.
fn each_once(mut reached: Vec<Reached>) -> Vec<Reached> {
    let mut addresses = HashSet::new();
    reached.retain(|reached| addresses.insert(reached.address));
    reached
}

pub(super) async fn clear(context: &Context<'_>) -> Result<(), CliError> {
    context.parts.ask_daemon(Request::ConsumeClear).await?;
    context.output.say("Nothing is consumed any more.");
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn what_two_consumes_reach_is_listed_once() {
        let reached = |service: &str, last| Reached {
            service: service.parse().expect("valid"),
            address: Ipv4Addr::new(127, 72, 1, last),
            ports: Vec::new(),
            refusal: None,
        };
        let (cart, api) = (reached("shop/cart", 2), reached("pay/api", 3));
        let listed = each_once(vec![cart.clone(), api, cart]);
        let names: Vec<_> = listed.iter().map(|reached| reached.service.to_string()).collect();
        assert_eq!(names, ["shop/cart", "pay/api"]);
    }
}
