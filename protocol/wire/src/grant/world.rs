//! A grant for tests, and the key that signs it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use fairlead_model::{
    GrantId, OrgId, Port, ServicePort, SessionId, SessionKind, TeamspaceId, Thumbprint, UserId,
    timers::GRANT_LIFE,
};

use super::{Grant, GrantRefused, GrantSigner, GrantVerifier, GrantedService};
use crate::key::Key;

pub(super) struct World {
    pub(super) key: Key,
    pub(super) grant: Grant,
}

impl World {
    pub(super) fn new() -> Self {
        let issued_at = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let grant = Grant {
            id: GrantId::generate(),
            session: SessionId::generate(),
            teamspace: TeamspaceId::generate(),
            organization: OrgId::generate(),
            user: UserId::generate(),
            device: Thumbprint::of_spki(b"a laptop"),
            action: SessionKind::Consume,
            services: vec![GrantedService {
                service: "shop/cart".parse().expect("valid"),
                ports: vec![port(80), port(8080), udp(53)],
                pods: vec!["cart-0".parse().expect("valid")],
            }],
            hosts: vec!["db.example.net:5432".parse().expect("valid")],
            policy_version: 7,
            issued_at,
            expires_at: issued_at + GRANT_LIFE,
        };
        Self { key: Key::generate().expect("made"), grant }
    }

    pub(super) fn jwt(&self) -> String {
        GrantSigner::new(&self.key).sign(&self.grant)
    }

    pub(super) fn verifier(&self) -> GrantVerifier {
        GrantVerifier::new(&self.key.public(), self.grant.teamspace)
    }

    pub(super) fn verify(&self, jwt: &str) -> Result<Grant, GrantRefused> {
        self.verifier().verify(jwt, self.grant.issued_at, &self.grant.device)
    }

    pub(super) fn verify_at(&self, now: SystemTime) -> Result<Grant, GrantRefused> {
        self.verifier().verify(&self.jwt(), now, &self.grant.device)
    }

    /// Signs any head over the grant's own claims with the right key.
    pub(super) fn with_head(&self, head: &serde_json::Value) -> String {
        let jwt = self.jwt();
        let claims = jwt.split('.').nth(1).expect("three parts");
        let text = format!("{}.{claims}", URL_SAFE_NO_PAD.encode(head.to_string()));
        let signature = URL_SAFE_NO_PAD.encode(self.key.sign(text.as_bytes()));
        format!("{text}.{signature}")
    }
}

pub(super) fn port(number: u16) -> ServicePort {
    ServicePort::tcp(Port::new(number).expect("not 0"))
}

pub(super) fn udp(number: u16) -> ServicePort {
    ServicePort::udp(Port::new(number).expect("not 0"))
}
