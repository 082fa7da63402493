//! Teamspaces: listed as far as they may be seen, made, deleted.

use std::collections::BTreeMap;

use fairlead_model::TeamspaceId;
use hub_policy::{
    Caller, Facts, TeamspaceName,
    actions::{CreateJoinToken, CreateTeamspace, DeleteTeamspace, SeeTeamspace},
    decide,
};
use hub_store::{Filter, Replica, StoreError, Teamspace};

use super::ActionError;
use crate::Hub;

/// A teamspace with what is known of its cluster at this moment.
#[derive(Debug)]
pub struct TeamspaceSeen {
    pub teamspace: Teamspace,
    pub replicas: Vec<Replica>,
    pub services: i64,
    pub may_enrol: bool,
    pub may_delete: bool,
}

/// The teamspaces a caller sees, and whether they may add one.
#[derive(Debug)]
pub struct TeamspacesSeen {
    pub teamspaces: Vec<TeamspaceSeen>,
    pub may_create: bool,
}

pub async fn list(hub: &Hub, caller: &Caller) -> Result<TeamspacesSeen, ActionError> {
    let facts = hub.facts(caller).await?;
    let scope = hub.store.scoped(caller.org);
    let mut counts = scope.service_counts().await?;
    let mut replicas = by_teamspace(scope.replicas().await?);
    let teamspaces = scope.teamspaces().await?.into_iter().filter(|t| may_see(caller, t, &facts));
    let teamspaces = teamspaces
        .map(|teamspace| {
            let replicas = replicas.remove(&teamspace.id).unwrap_or_default();
            let services = counts.remove(&teamspace.id).unwrap_or_default();
            seen(caller, teamspace, replicas, services, &facts)
        })
        .collect();
    let create = CreateTeamspace { name: "any".parse().expect("a label") };
    Ok(TeamspacesSeen { teamspaces, may_create: decide(caller, create, &facts).is_ok() })
}

pub async fn show(
    hub: &Hub,
    caller: &Caller,
    id: TeamspaceId,
) -> Result<TeamspaceSeen, ActionError> {
    let facts = hub.facts(caller).await?;
    let scope = hub.store.scoped(caller.org);
    let teamspace = visible(hub, caller, id, &facts).await?;
    let replicas = by_teamspace(scope.replicas().await?).remove(&id).unwrap_or_default();
    let services = scope.service_counts().await?.remove(&id).unwrap_or_default();
    Ok(seen(caller, teamspace, replicas, services, &facts))
}

pub async fn create(
    hub: &Hub,
    caller: &Caller,
    name: TeamspaceName,
) -> Result<TeamspaceSeen, ActionError> {
    let facts = hub.facts(caller).await?;
    let permit = decide(caller, CreateTeamspace { name: name.clone() }, &facts)?;
    let created = hub.store.create_teamspace(&permit, hub.clock.now()).await;
    let teamspace = created.map_err(|error| match error {
        StoreError::Conflict { .. } => ActionError::Conflict {
            message: format!("there is a teamspace `{name}` already"),
            hint: Some("choose another name".to_owned()),
        },
        other => other.into(),
    })?;
    tracing::info!(teamspace = %teamspace.id, "Teamspace {name} created");
    Ok(seen(caller, teamspace, Vec::new(), 0, &facts))
}

/// Deletes a teamspace. Its sessions end first, so that both ends hear of it and every carrier is cut.
pub async fn delete(hub: &Hub, caller: &Caller, id: TeamspaceId) -> Result<(), ActionError> {
    let facts = hub.facts(caller).await?;
    let teamspace = hub.store.scoped(caller.org).teamspace(id).await?;
    let permit = decide(caller, DeleteTeamspace { teamspace: teamspace.facts() }, &facts)?;
    let live = Filter { only_live: true, teamspace: Some(id), device: None };
    for session in hub.store.scoped(caller.org).sessions(live).await? {
        hub.store
            .unscoped("the teamspace of the session is being deleted, with a permit")
            .end_session(&session, "the teamspace was deleted", None, hub.clock.now())
            .await?;
    }
    hub.store.delete_teamspace(&permit, hub.clock.now()).await?;
    tracing::info!(teamspace = %id, "Teamspace {} deleted", teamspace.name);
    Ok(())
}

/// Returns a teamspace that the caller may see; any other does not exist for them.
pub(super) async fn visible(
    hub: &Hub,
    caller: &Caller,
    id: TeamspaceId,
    facts: &Facts,
) -> Result<Teamspace, ActionError> {
    let teamspace = hub.store.scoped(caller.org).teamspace(id).await?;
    if may_see(caller, &teamspace, facts) {
        Ok(teamspace)
    } else {
        Err(StoreError::NotFound { noun: "teamspace" }.into())
    }
}

fn may_see(caller: &Caller, teamspace: &Teamspace, facts: &Facts) -> bool {
    decide(caller, SeeTeamspace { teamspace: teamspace.facts() }, facts).is_ok()
}

fn seen(
    caller: &Caller,
    teamspace: Teamspace,
    replicas: Vec<Replica>,
    services: i64,
    facts: &Facts,
) -> TeamspaceSeen {
    let enrol = CreateJoinToken { teamspace: teamspace.facts() };
    let delete = DeleteTeamspace { teamspace: teamspace.facts() };
    TeamspaceSeen {
        may_enrol: decide(caller, enrol, facts).is_ok(),
        may_delete: decide(caller, delete, facts).is_ok(),
        teamspace,
        replicas,
        services,
    }
}

fn by_teamspace(replicas: Vec<Replica>) -> BTreeMap<TeamspaceId, Vec<Replica>> {
    let mut grouped: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for replica in replicas {
        grouped.entry(replica.teamspace).or_default().push(replica);
    }
    grouped
}
