//! A session that lives, with both of its ends.

use std::time::SystemTime;

use fairlead_wire::{
    grant::{GrantVerifier, GrantedService},
    link::v1::{Heartbeat, laptop_up},
};
use reqwest::Method;
use serde_json::{Value, json};

use super::id_of;
use crate::{
    peers::{Joined, LaptopLink},
    people::{Answer, Person},
    world::World,
};

/// A developer with a live consume, both ends connected.
pub(super) struct Running {
    pub(super) world: World,
    pub(super) olga: Person,
    pub(super) ada: Person,
    pub(super) staging: Joined,
    pub(super) laptop: LaptopLink,
    pub(super) session: String,
}

pub(super) async fn running() -> Running {
    let world = World::new().await;
    let olga = world.person("olga", "owners").await;
    let ada = world.person("ada", "developers").await;
    let mut staging = world.teamspace(&olga, "staging", &["shop/cart"]).await;
    let laptop = ada.laptop.connect(&world).await.expect("welcomed");
    let begun = ada.consumes(&world, staging.id, &["shop/*"]).await.with(201);
    staging.agent.wanted(|wanted| wanted.sessions.len() == 1).await;
    Running { world, olga, ada, staging, laptop, session: id_of(&begun) }
}

impl Running {
    /// Waits for a grant that is good by the hub's clock of this moment.
    pub(super) async fn is_granted_anew(&mut self) {
        // The task looks every ten seconds, and a silent link is dead after fifteen.
        self.laptop.say(laptop_up::Message::Heartbeat(Heartbeat {})).await;
        let (verifier, device) = (self.verifier(), self.ada.laptop.key.thumbprint());
        let is_good = |jwt: &str, now: SystemTime| verifier.verify(jwt, now, &device).is_ok();
        while !is_good(&self.laptop.grant().await.grant, self.world.now().into()) {}
    }

    pub(super) fn verifier(&self) -> GrantVerifier {
        let key: [u8; 32] = self.staging.reply.grant_key.clone().try_into().expect("32 bytes");
        GrantVerifier::new(&key, self.staging.id)
    }

    /// Waits until both ends have been told.
    pub(super) async fn both_ends_are_told(&mut self) -> String {
        let told = self.staging.agent.revoked().await;
        assert_eq!(told.session_id, self.session);
        assert_eq!(self.laptop.revoked().await, told);
        self.staging.agent.wanted(|wanted| wanted.sessions.is_empty()).await;
        told.reason
    }

    /// Waits for grants until one names these services, each with its ports, and returns the words it came with. None
    /// before it may lack what `stays`.
    pub(super) async fn is_granted(&mut self, wanted: &[&str], stays: &str) -> Vec<String> {
        let (verifier, device) = (self.verifier(), self.ada.laptop.key.thumbprint());
        loop {
            let message = self.laptop.grant().await;
            assert_eq!(message.session_id, self.session);
            let grant = verifier.verify(&message.grant, self.world.now().into(), &device);
            let granted: Vec<_> = grant.expect("valid").services.iter().map(in_words).collect();
            assert!(granted.iter().any(|service| service.starts_with(stays)), "{granted:?}");
            if granted == wanted {
                return message.patterns;
            }
        }
    }

    pub(super) async fn is_about(&self, person: &Person, words: &[&str]) -> Answer {
        let path = format!("/api/v1/sessions/{}/patterns", self.session);
        person.ask(&self.world, Method::PUT, &path, Some(json!({ "patterns": words }))).await
    }

    pub(super) async fn audited(&self, action: &str) -> Value {
        let audit = self.olga.get(&self.world, "/api/v1/audit").await.with(200);
        let mut entries = audit["entries"].as_array().expect("entries").clone();
        entries.retain(|entry| entry["action"] == action);
        entries.first().map(|entry| entry["detail"].clone()).unwrap_or_default()
    }
}

fn in_words(granted: &GrantedService) -> String {
    let ports: Vec<_> = granted.ports.iter().map(ToString::to_string).collect();
    format!("{}:{}", granted.service, ports.join(","))
}
