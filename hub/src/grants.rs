//! The only minter of grants. A grant ends with its life, with its session, or when a renewed one replaces it.

use std::time::SystemTime;

use fairlead_model::{GrantId, timers::GRANT_LIFE};
use fairlead_wire::grant::{Grant, GrantedService};
use hub_store::{Granted, Session};

use crate::{Hub, actions::ActionError};

impl Hub {
    /// Signs what was decided for a session, for the next quarter of an hour.
    pub(crate) async fn mint(
        &self,
        session: &Session,
        services: &[Granted],
        policy_version: u64,
    ) -> Result<String, ActionError> {
        let keys = self
            .keys
            .organization(session.org)
            .await
            .map_err(|error| ActionError::Internal(error.to_string()))?;
        let now = SystemTime::from(self.clock.now());
        let granted = |granted: &Granted| GrantedService {
            service: granted.service.clone(),
            ports: granted.ports.clone(),
        };
        Ok(keys.signer.sign(&Grant {
            id: GrantId::generate(),
            session: session.id,
            teamspace: session.teamspace,
            organization: session.org,
            user: session.user,
            device: session.device_key,
            action: session.kind(),
            services: services.iter().map(granted).collect(),
            policy_version,
            issued_at: now,
            expires_at: now + GRANT_LIFE,
        }))
    }
}
