//! Which services a grant covers, read without verifying it: the agent verifies, we only want to know the names.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use fairlead_model::{Port, ServiceRef};
use laptop_account::GrantedService;
use serde::Deserialize;

#[derive(Deserialize)]
struct Claims {
    svc: Vec<Service>,
}

#[derive(Deserialize)]
struct Service {
    ns: fairlead_model::Namespace,
    name: fairlead_model::ServiceName,
    ports: Vec<Port>,
}

/// Reads the services out of a grant; `None` when it is not readable.
pub(crate) fn services_in(grant: &str) -> Option<Vec<(ServiceRef, Vec<Port>)>> {
    let claims = URL_SAFE_NO_PAD.decode(grant.split('.').nth(1)?).ok()?;
    let Claims { svc } = serde_json::from_slice(&claims).ok()?;
    let service = |s: Service| (ServiceRef::new(s.ns, s.name), s.ports);
    Some(svc.into_iter().map(service).collect())
}

/// Returns the services as the hub's answer names them, in the daemon's form.
pub(crate) fn services_of(granted: Vec<GrantedService>) -> Vec<(ServiceRef, Vec<Port>)> {
    let service =
        |granted: GrantedService| (ServiceRef::new(granted.namespace, granted.name), granted.ports);
    granted.into_iter().map(service).collect()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use fairlead_model::{GrantId, OrgId, SessionId, SessionKind, TeamspaceId, UserId};
    use fairlead_wire::{
        grant::{Grant, GrantSigner, GrantedService},
        key::Key,
    };

    use super::*;

    #[test]
    fn the_services_of_a_signed_grant_are_read() {
        let key = Key::generate().expect("made");
        let (cart, port) = ("shop/cart".parse().expect("valid"), Port::new(80).expect("not 0"));
        let now = SystemTime::now();
        let grant = Grant {
            id: GrantId::generate(),
            session: SessionId::generate(),
            teamspace: TeamspaceId::generate(),
            organization: OrgId::generate(),
            user: UserId::generate(),
            device: key.thumbprint(),
            action: SessionKind::Consume,
            services: vec![GrantedService { service: cart, ports: vec![port] }],
            policy_version: 1,
            issued_at: now,
            expires_at: now + Duration::from_secs(900),
        };
        let services = services_in(&GrantSigner::new(&key).sign(&grant)).expect("readable");
        assert_eq!(services, [("shop/cart".parse().expect("valid"), vec![port])]);
        assert_eq!(services_in("no grant"), None);
    }
}
