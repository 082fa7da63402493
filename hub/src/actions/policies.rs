//! Policies: a new version is validated as a whole before it counts.

use hub_policy::{
    Caller, Policies, PolicyText,
    actions::{ListPolicies, PublishPolicies},
};
use hub_store::StoreError;

use super::ActionError;
use crate::Hub;

/// Returns the organization's own policies in force, with their version.
pub async fn list(hub: &Hub, caller: &Caller) -> Result<(u64, Vec<PolicyText>), ActionError> {
    let facts = hub.facts(caller).await?;
    hub.decide(caller, ListPolicies, &facts).await?;
    Ok(hub.store.scoped(caller.org).policy_texts().await?)
}

/// Puts the organization's own policies in force, in place of those before; returns the new version.
pub async fn publish(
    hub: &Hub,
    caller: &Caller,
    texts: Vec<PolicyText>,
) -> Result<u64, ActionError> {
    let facts = hub.facts(caller).await?;
    // Asked first: whoever may not publish learns nothing about whether a policy is valid.
    let permit = hub.decide(caller, PublishPolicies { texts }, &facts).await?;
    Policies::new(facts.policies.version() + 1, &permit.action().texts)
        .map_err(|error| ActionError::invalid(error.to_string()))?;
    let published = hub.store.publish_policies(&permit, hub.clock.now()).await;
    let version = published.map_err(|error| match error {
        StoreError::Conflict { .. } => ActionError::Conflict {
            message: "somebody else published policies at the same moment".to_owned(),
            hint: Some("look at theirs, then publish again".to_owned()),
        },
        other => other.into(),
    })?;
    tracing::info!(organization = %caller.org, version, "Policies published");
    Ok(version)
}
