//! `fairlead consume PATTERN…|list|clear`.

use fairlead_model::{Pattern, Patterns, SessionKind};
use laptop_ipc::{
    Failure, FailureKind,
    daemon::{Answer, Reached, Request, Session},
};
use serde::Serialize;

use super::{Context, teamspace};
use crate::{
    args::OfTeamspace,
    commands::list::{PROOF_MAX, wait_until_proven},
    errors::CliError,
    output::Shown,
    parts::unexpected,
    table::table,
};

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
        table(["SERVICE", "NAME", "PORTS", "ADDRESS"], rows, "Nothing is consumed.")
    }
}

pub(super) async fn begin(
    context: &Context<'_>,
    patterns: Vec<Pattern>,
    of: OfTeamspace,
) -> Result<(), CliError> {
    let patterns = Patterns::new(patterns)
        .map_err(|error| Failure::new(FailureKind::Input, error.to_string()))?;
    let hub = context.hub()?;
    let teamspace = teamspace::meant(&hub, of).await?;
    let hub = hub.account().hub().to_string();
    let request = Request::Consume { hub, teamspace, patterns };
    let (session, refused, warnings) = match context.parts.ask_daemon(request).await? {
        Answer::Begun { session, refused, warnings } => (session, refused, warnings),
        other => return Err(unexpected(&other)),
    };
    for warning in warnings {
        context.output.warn(warning);
    }
    for refused in refused {
        context.output.warn(format!("{} is left out: {}", refused.service, refused.reason));
    }
    let session = wait_until_proven(context, session, PROOF_MAX).await?;
    context.output.say(format!(
        "{} of teamspace `{}` can be reached by name.",
        counted(session.services.len()),
        session.teamspace.name
    ));
    context.output.show(&Consumed(session.services))
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
