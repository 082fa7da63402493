//! `fairlead teamspace list|use|trust`, and which teamspace a command means.

use fairlead_model::Thumbprint;
use laptop_account::{Hub, SelectedTeamspace, TeamspaceView};
use laptop_ipc::{
    FailureKind,
    daemon::{Request, Teamspace},
};
use serde::Serialize;

use super::Context;
use crate::{args::OfTeamspace, errors::CliError, output::Shown, table::table};

#[derive(Serialize)]
struct Row {
    #[serde(flatten)]
    teamspace: TeamspaceView,
    chosen: bool,
}

#[derive(Serialize)]
#[serde(transparent)]
struct Teamspaces(Vec<Row>);

impl Shown for Teamspaces {
    fn to_text(&self) -> String {
        let rows = self.0.iter().map(|Row { teamspace, chosen }| {
            [
                if *chosen { "*" } else { "" }.to_owned(),
                teamspace.name.clone(),
                teamspace.status.clone(),
                teamspace.services.to_string(),
            ]
        });
        table(["", "NAME", "STATUS", "SERVICES"], rows, "You see no teamspace.")
    }
}

pub(super) async fn list(context: &Context<'_>) -> Result<(), CliError> {
    let hub = context.hub()?;
    let chosen = hub.account().teamspace()?;
    let is_chosen = |t: &TeamspaceView| chosen.as_ref().is_some_and(|chosen| chosen.id == t.id);
    let rows = hub.teamspaces().await?.into_iter();
    let rows = rows.map(|teamspace| Row { chosen: is_chosen(&teamspace), teamspace });
    context.output.show(&Teamspaces(rows.collect()))
}

pub(super) async fn choose(context: &Context<'_>, name: &str) -> Result<(), CliError> {
    let hub = context.hub()?;
    let teamspaces = hub.teamspaces().await?;
    let TeamspaceView { id, name, .. } = named(&teamspaces, name)?;
    hub.account().select_teamspace(&SelectedTeamspace { id: *id, name: name.clone() })?;
    context.output.say(format!("Commands now mean teamspace `{name}`."));
    match context.parts.ask_daemon(Request::TeamspaceChosen).await {
        // A daemon that begins later reads what was chosen.
        Ok(_) | Err(CliError::NoDaemon) => Ok(()),
        Err(error) => Err(error),
    }
}

pub(super) async fn trust(
    context: &Context<'_>,
    name: &str,
    thumbprint: Thumbprint,
) -> Result<(), CliError> {
    let hub = context.hub()?;
    let teamspaces = hub.teamspaces().await?;
    let teamspace = named(&teamspaces, name)?;
    hub.account().pins().trust(teamspace.id, &teamspace.name, thumbprint)?;
    context.output.say(format!("Teamspace `{}` is trusted with key {thumbprint}.", teamspace.name));
    Ok(())
}

/// Returns the teamspace that a command means: the one named, the one chosen, or the only one there is.
pub(super) async fn meant(hub: &Hub, of: OfTeamspace) -> Result<Teamspace, CliError> {
    if let Some(name) = of.teamspace {
        let teamspaces = hub.teamspaces().await?;
        let TeamspaceView { id, name, .. } = named(&teamspaces, &name)?;
        return Ok(Teamspace { id: *id, name: name.clone() });
    }
    if let Some(SelectedTeamspace { id, name }) = hub.account().teamspace()? {
        return Ok(Teamspace { id, name });
    }
    match <[TeamspaceView; 1]>::try_from(hub.teamspaces().await?) {
        Ok([TeamspaceView { id, name, .. }]) => Ok(Teamspace { id, name }),
        Err(none) if none.is_empty() => Err(CliError::new(
            FailureKind::NotFound,
            "you see no teamspace",
            "ask an admin of your organization to enrol a cluster, or to give you a role",
        )),
        Err(several) => Err(CliError::new(
            FailureKind::Input,
            format!("which teamspace? You see {}", names(&several)),
            format!("choose one: fairlead teamspace use {}", several[0].name),
        )),
    }
}

pub(super) fn named<'t>(
    teamspaces: &'t [TeamspaceView],
    name: &str,
) -> Result<&'t TeamspaceView, CliError> {
    let known = names(teamspaces);
    teamspaces.iter().find(|teamspace| teamspace.name == name).ok_or_else(|| {
        CliError::new(
            FailureKind::NotFound,
            format!("there is no teamspace `{name}`"),
            if known.is_empty() { "you see none".to_owned() } else { format!("you see {known}") },
        )
    })
}

fn names(teamspaces: &[TeamspaceView]) -> String {
    teamspaces.iter().map(|t| format!("`{}`", t.name)).collect::<Vec<_>>().join(", ")
}
