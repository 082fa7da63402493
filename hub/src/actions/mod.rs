//! What happens: facts, a decision, a record, and the consequences. All branching is here.

mod absences;
pub mod change;
pub mod connections;
pub mod consume;
mod denials;
pub mod devices;
pub mod enrol;
pub mod intercept;
pub mod join_tokens;
pub mod members;
pub mod organization;
pub(crate) mod pass;
pub mod policies;
pub mod reconsider;
pub mod renew;
pub mod service_accounts;
pub mod services;
pub mod sessions;
pub mod setup;
pub mod teamspaces;
pub(crate) mod turns;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use fairlead_model::OrgId;
use hub_policy::{Caller, Denied, Facts, Policies};
use hub_store::StoreError;

pub use absences::Absences;
pub use denials::RecentDenials;
pub use turns::Turns;

use crate::Hub;

/// Why an action was not done, in the words of its subject. What each becomes on the wire is not decided here.
#[derive(Debug, thiserror::Error)]
pub enum ActionError {
    #[error(transparent)]
    Denied(#[from] Denied),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{message}")]
    Invalid { message: String, hint: Option<String> },
    #[error("{message}")]
    NotFound { message: String, hint: Option<String> },
    #[error("{message}")]
    Conflict { message: String, hint: Option<String> },
    #[error("{0}")]
    Internal(String),
}

impl ActionError {
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid { message: message.into(), hint: None }
    }
}

/// The policies of each organization, parsed and validated once per version.
#[derive(Debug, Default)]
pub struct PolicyCache(Mutex<HashMap<OrgId, Arc<Policies>>>);

impl PolicyCache {
    fn get(&self, org: OrgId, version: u64) -> Option<Arc<Policies>> {
        let cache = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        cache.get(&org).filter(|policies| policies.version() == version).map(Arc::clone)
    }

    fn put(&self, org: OrgId, policies: &Arc<Policies>) {
        let mut cache = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        cache.insert(org, Arc::clone(policies));
    }
}

impl Hub {
    /// Returns the facts for decisions about `caller`: the time, and the policies in force in their organization.
    pub async fn facts(&self, caller: &Caller) -> Result<Facts, StoreError> {
        let policies = self.policies_of(caller.org).await?;
        Ok(Facts { now: self.clock.now(), mfa_age_s: None, policies })
    }

    async fn policies_of(&self, org: OrgId) -> Result<Arc<Policies>, StoreError> {
        let scope = self.store.scoped(org);
        let version = scope.policy_version().await?;
        if let Some(policies) = self.policies.get(org, version) {
            return Ok(policies);
        }
        let policies = Arc::new(scope.policies().await?);
        self.policies.put(org, &policies);
        Ok(policies)
    }
}
