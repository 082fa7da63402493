//! Members and groups: listed, given roles, removed.

use fairlead_model::UserId;
use hub_policy::{
    Caller, Role,
    actions::{ListMembers, RemoveMember, RestoreMember, RoleHolder, SetRoles},
};
use hub_store::{Group, Member, StoreError};

use super::ActionError;
use crate::Hub;

pub async fn list(hub: &Hub, caller: &Caller) -> Result<Vec<Member>, ActionError> {
    let facts = hub.facts(caller).await?;
    hub.decide(caller, ListMembers, &facts).await?;
    Ok(hub.store.scoped(caller.org).members().await?)
}

pub async fn list_groups(hub: &Hub, caller: &Caller) -> Result<Vec<Group>, ActionError> {
    let facts = hub.facts(caller).await?;
    hub.decide(caller, ListMembers, &facts).await?;
    Ok(hub.store.scoped(caller.org).groups().await?)
}

/// Replaces the organization-wide roles of a member or a group.
pub async fn set_roles(
    hub: &Hub,
    caller: &Caller,
    holder: RoleHolder,
    mut roles: Vec<Role>,
) -> Result<(), ActionError> {
    roles.sort_unstable();
    roles.dedup();
    let facts = hub.facts(caller).await?;
    let before = hub.store.scoped(caller.org).roles_of(holder).await?;
    let permit = hub.decide(caller, SetRoles { holder, before, after: roles }, &facts).await?;
    hub.store.set_roles(&permit, hub.clock.now()).await.map_err(in_words)
}

/// Shuts a member out at once: sessions of the browser and the command line end, and live sessions with them.
pub async fn remove(hub: &Hub, caller: &Caller, user: UserId) -> Result<(), ActionError> {
    let facts = hub.facts(caller).await?;
    let member = hub.store.scoped(caller.org).caller_of(user).await?;
    let member = member.filter(|member| !member.actor.is_service());
    let member = member.ok_or(StoreError::NotFound { noun: "member" })?;
    let is_owner = member.roles_everywhere().contains(&Role::Owner);
    let permit = hub.decide(caller, RemoveMember { user, is_owner }, &facts).await?;
    hub.store.remove_member(&permit, hub.clock.now()).await.map_err(in_words)
}

/// Lets a removed member in again, with the roles they had.
pub async fn restore(hub: &Hub, caller: &Caller, user: UserId) -> Result<(), ActionError> {
    let facts = hub.facts(caller).await?;
    let is_owner = hub.store.scoped(caller.org).is_owner(user).await?;
    let permit = hub.decide(caller, RestoreMember { user, is_owner }, &facts).await?;
    hub.store.restore_member(&permit, hub.clock.now()).await.map_err(in_words)
}

fn in_words(error: StoreError) -> ActionError {
    let StoreError::Conflict { constraint } = &error else { return error.into() };
    let (message, hint) = match constraint.as_str() {
        "organization_needs_an_owner" => (
            "the organization would be left without an owner who can sign in",
            "make somebody else an owner first",
        ),
        "roles_changed_meanwhile" => {
            ("somebody else has just changed these roles", "look at them again, then decide")
        }
        _ => return error.into(),
    };
    ActionError::Conflict { message: message.to_owned(), hint: Some(hint.to_owned()) }
}
