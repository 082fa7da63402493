//! `fairlead consume PATTERN…|list|clear`.

use fairlead_model::{Callee, Pattern, Patterns, ServicePort, SessionKind};
use laptop_ipc::{
    FailureKind,
    daemon::{Reached, Request, Session, Teamspace},
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
    let patterns = Patterns::new(patterns).map_err(|error| {
        let hint = "for example: fairlead consume 'shop/*' '!shop/payment'";
        CliError::new(FailureKind::Input, error.to_string(), hint)
    })?;
    let hub = context.hub()?;
    let teamspace = teamspace::meant(&hub, of).await?;
    let url = hub.account().hub().to_string();
    let request = Request::Consume { hub: url, teamspace, patterns, may_remap };
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
    context.output.show(&Consumed(session.services))?;
    proven
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
    let services = consumes.flat_map(|Session { services, .. }| services);
    context.output.show(&Consumed(services.collect()))
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
