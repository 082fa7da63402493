//! `fairlead consume PATTERN…|list|clear`.

use fairlead_model::{Pattern, Patterns, ServiceRef, SessionKind};
use laptop_account::ServiceView;
use laptop_ipc::{
    FailureKind,
    daemon::{Reached, Request, Session},
};
use serde::Serialize;

use super::{
    Context,
    proof::{self, Begun, PROOF_MAX},
    services, teamspace,
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
    let (id, words) = (teamspace.id, patterns.clone());
    let url = hub.account().hub().to_string();
    let request = Request::Consume { hub: url, teamspace, patterns };
    let Begun { session, refused, warnings, notes: _ } = proof::begin(context, request).await?;
    if !warnings.is_empty() {
        // Only a hint depends on it.
        let known = hub.services(id).await.unwrap_or_default();
        warnings.iter().for_each(|warning| context.output.warn(warning));
        likely_slips(&words, &known).iter().for_each(|hint| context.output.say(hint));
    }
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

/// Asks about each service that is named and does not exist, when another one has a similar name.
fn likely_slips(words: &Patterns, known: &[ServiceView]) -> Vec<String> {
    let named = words.iter().filter(|word| !word.excludes()).filter_map(Pattern::names_one);
    let is_known = |service: &ServiceRef| {
        known.iter().any(|k| k.namespace == service.namespace && k.name == service.name)
    };
    let slips = named.filter(|service| !is_known(service));
    slips.filter_map(|slip| Some(format!("hint: {}", services::similar(&slip, known)?))).collect()
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
    context.output.show(&Consumed(consumes.flat_map(|Session { services, .. }| services).collect()))
}

pub(super) async fn clear(context: &Context<'_>) -> Result<(), CliError> {
    context.parts.ask_daemon(Request::ConsumeClear).await?;
    context.output.say("Nothing is consumed any more.");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_pen_is_told_what_may_have_been_meant() {
        let known = |name: &str| -> ServiceView {
            let may = serde_json::json!({ "consume": true, "intercept": true });
            let view = serde_json::json!({
                "namespace": "shop", "name": name, "type": "ClusterIP", "ports": [], "may": may,
            });
            serde_json::from_value(view).expect("a service")
        };
        let words = ["shop/kart", "shop/frontend", "shop/*", "!shop/x"];
        let words = words.map(|word| word.parse().expect("valid")).to_vec();
        let words = Patterns::new(words).expect("valid");
        let hints = likely_slips(&words, &[known("cart"), known("frontend")]);
        assert_eq!(hints.len(), 1, "{hints:?}");
        assert!(hints[0].starts_with("hint: did you mean `shop/cart`"), "{hints:?}");
    }
}
