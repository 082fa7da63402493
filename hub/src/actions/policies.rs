//! Policies: a new version is validated as a whole before it counts.

use hub_policy::{Caller, Policies, PolicyText, actions::PublishPolicies, decide};

use super::ActionError;
use crate::Hub;

/// Puts the organization's own policies in force, in place of those before; returns the new version.
pub async fn publish(
    hub: &Hub,
    caller: &Caller,
    texts: Vec<PolicyText>,
) -> Result<u64, ActionError> {
    let facts = hub.facts(caller.org, None).await?;
    Policies::new(facts.policies.version() + 1, &texts)
        .map_err(|error| ActionError::invalid(error.to_string()))?;
    let permit = decide(caller, PublishPolicies { texts }, &facts)?;
    let version = hub.store.publish_policies(&permit, hub.clock.now()).await?;
    tracing::info!(organization = %caller.org, version, "Policies published");
    Ok(version)
}
