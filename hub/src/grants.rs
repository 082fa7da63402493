//! The only minter of grants. A grant ends with its life, with its session, or when a renewed one replaces it.

use std::time::SystemTime;

use fairlead_model::{
    GrantId, OrgId, SessionId, SessionKind, TeamspaceId, Thumbprint, UserId, timers::GRANT_LIFE,
};
use fairlead_wire::{
    grant::{Grant, GrantedService},
    open::GRANT_MAX_BYTES,
};
use hub_store::{Granted, Session};

use crate::{Hub, actions::ActionError};

impl Hub {
    /// Signs what was decided for a session, for the next quarter of an hour.
    pub(crate) async fn mint(
        &self,
        session: &Session,
        granted: &Granted,
        policy_version: u64,
    ) -> Result<String, ActionError> {
        let now = SystemTime::from(self.clock.now());
        let grant = Grant {
            id: GrantId::generate(),
            session: session.id,
            teamspace: session.teamspace,
            organization: session.org,
            user: session.user,
            device: session.device_key,
            action: session.kind(),
            services: services(granted),
            hosts: granted.hosts.clone(),
            policy_version,
            issued_at: now,
            expires_at: now + GRANT_LIFE,
        };
        match self.sign(session.org, &grant).await {
            // What is reached matters more than what its pods are called.
            Err(ActionError::Invalid { .. }) => {
                let mut grant = grant;
                grant.services.iter_mut().for_each(|service| service.pods.clear());
                self.sign(session.org, &grant).await
            }
            signed => signed,
        }
    }

    /// Refuses more services than one grant can name: before a session is begun that could never have one.
    pub(crate) async fn must_fit_one_grant(
        &self,
        org: OrgId,
        granted: &Granted,
    ) -> Result<(), ActionError> {
        // Ids and times are as long as those of every other grant; the version is the longest there can be.
        let now = SystemTime::from(self.clock.now());
        let grant = Grant {
            id: GrantId::generate(),
            session: SessionId::generate(),
            teamspace: TeamspaceId::generate(),
            organization: org,
            user: UserId::generate(),
            device: Thumbprint::of_spki(b""),
            action: SessionKind::Intercept,
            services: services(granted).into_iter().map(without_pods).collect(),
            hosts: granted.hosts.clone(),
            policy_version: u64::MAX,
            issued_at: now,
            expires_at: now + GRANT_LIFE,
        };
        self.sign(org, &grant).await.map(drop)
    }

    async fn sign(&self, org: OrgId, grant: &Grant) -> Result<String, ActionError> {
        let keys = self.keys.organization(org).await;
        let keys = keys.map_err(|error| ActionError::Internal(error.to_string()))?;
        let jwt = keys.signer.sign(grant);
        if jwt.len() > GRANT_MAX_BYTES {
            return Err(ActionError::Invalid {
                message: format!(
                    "{} services are more than one session can name (its grant would have {} KiB, at most {} KiB)",
                    grant.services.len(),
                    jwt.len() / 1024,
                    GRANT_MAX_BYTES / 1024
                ),
                hint: Some("ask for fewer: name services, or leave some out with `!`".to_owned()),
            });
        }
        Ok(jwt)
    }
}

fn services(granted: &Granted) -> Vec<GrantedService> {
    let service = |service: &hub_store::GrantedService| GrantedService {
        service: service.service.clone(),
        ports: service.ports.clone(),
        pods: service.pods.clone(),
    };
    granted.services.iter().map(service).collect()
}

fn without_pods(granted: GrantedService) -> GrantedService {
    GrantedService { pods: Vec::new(), ..granted }
}
