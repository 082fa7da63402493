//! Teamspaces: listed as far as they may be seen, made, deleted.

use std::collections::BTreeMap;

use fairlead_model::TeamspaceId;
use hub_policy::{
    Caller, Facts, TeamspaceName,
    actions::{
        CreateJoinToken, CreateTeamspace, DeleteTeamspace, ResetEnrolment, SeeTeamspace,
        UnlockTeamspace,
    },
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
    let permit = hub.decide(caller, CreateTeamspace { name: name.clone() }, &facts).await?;
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
    let permit =
        hub.decide(caller, DeleteTeamspace { teamspace: teamspace.facts() }, &facts).await?;
    end_sessions(hub, &teamspace, "the teamspace was deleted").await?;
    hub.store.delete_teamspace(&permit, hub.clock.now()).await?;
    tracing::info!(teamspace = %id, "Teamspace {} deleted", teamspace.name);
    Ok(())
}

/// Lets a locked teamspace go on: whoever does it knows which of the two clusters is the copy, and that it is gone.
pub async fn unlock(hub: &Hub, caller: &Caller, id: TeamspaceId) -> Result<(), ActionError> {
    let facts = hub.facts(caller).await?;
    let teamspace = hub.store.scoped(caller.org).teamspace(id).await?;
    let permit =
        hub.decide(caller, UnlockTeamspace { teamspace: teamspace.facts() }, &facts).await?;
    hub.store.unlock_teamspace(&permit, hub.clock.now()).await?;
    tracing::info!(teamspace = %id, "Teamspace {} unlocked", teamspace.name);
    Ok(())
}

/// Forgets the cluster that joined a teamspace: its key counts for nothing, and the next join token is for another.
pub async fn reset_enrolment(
    hub: &Hub,
    caller: &Caller,
    id: TeamspaceId,
) -> Result<(), ActionError> {
    let facts = hub.facts(caller).await?;
    let teamspace = hub.store.scoped(caller.org).teamspace(id).await?;
    let permit =
        hub.decide(caller, ResetEnrolment { teamspace: teamspace.facts() }, &facts).await?;
    end_sessions(hub, &teamspace, "the teamspace's enrolment was reset").await?;
    hub.store.reset_enrolment(&permit, hub.clock.now()).await?;
    tracing::info!(teamspace = %id, "Enrolment of teamspace {} reset", teamspace.name);
    Ok(())
}

async fn end_sessions(hub: &Hub, teamspace: &Teamspace, reason: &str) -> Result<(), StoreError> {
    let live = Filter { only_live: true, teamspace: Some(teamspace.id), ..Filter::default() };
    let store = hub.store.unscoped("what the sessions of a teamspace stand on goes, with a permit");
    for session in hub.store.scoped(teamspace.org).sessions(live).await? {
        store.end_session(&session, reason, None, hub.clock.now()).await?;
    }
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
    match hub.decide(caller, SeeTeamspace { teamspace: teamspace.facts() }, facts).await {
        Ok(_) => Ok(teamspace),
        Err(ActionError::Denied(_)) => Err(StoreError::NotFound { noun: "teamspace" }.into()),
        Err(error) => Err(error),
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
