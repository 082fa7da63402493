//! A Service whose endpoints its owner writes by hand: it has no pods that would have to be started first.

use anyhow::Context;
use serde_json::{Value, json};

use crate::world::World;

#[derive(Debug)]
pub struct Handmade<'w>(&'w World);

impl<'w> Handmade<'w> {
    pub const NAMESPACE: &'static str = "default";
    pub const NAME: &'static str = "fresh";

    /// Makes it, without any endpoint.
    pub fn appears(world: &'w World) -> anyhow::Result<Self> {
        let fresh = Self(world);
        fresh.apply(&json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": Self::NAME, "namespace": Self::NAMESPACE},
            "spec": {"ports": [{"name": "http", "port": 80}]},
        }))?;
        Ok(fresh)
    }

    /// Gives it as many ready endpoints.
    pub fn has_ready(&self, ready: u64) -> anyhow::Result<()> {
        let endpoint =
            |n: u64| json!({"addresses": [format!("192.0.2.{n}")], "conditions": {"ready": true}});
        self.apply(&json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {
                "name": Self::NAME, "namespace": Self::NAMESPACE,
                "labels": {"kubernetes.io/service-name": Self::NAME},
            },
            "ports": [{"name": "http", "port": 80}],
            "endpoints": (1..=ready).map(endpoint).collect::<Vec<_>>(),
        }))
    }

    /// Returns how many ready endpoints of it the hub knows; nothing when the hub does not know it.
    pub fn known_ready(&self) -> anyhow::Result<Option<u64>> {
        let catalogue = self.0.catalogue()?;
        let known = catalogue.get(&format!("{}/{}", Self::NAMESPACE, Self::NAME));
        known.map(|known| known["ready_endpoints"].as_u64().context("a number")).transpose()
    }

    /// Deletes it with its endpoints.
    pub fn disappears(&self) -> anyhow::Result<()> {
        let both = ["delete", "services,endpointslices", Self::NAME, "--ignore-not-found"];
        self.0.kubectl(&[&["-n", Self::NAMESPACE], &both[..]].concat())?;
        Ok(())
    }

    fn apply(&self, object: &Value) -> anyhow::Result<()> {
        let file = self.0.folder().join("handmade.json");
        std::fs::write(&file, object.to_string())?;
        self.0.kubectl(&["apply", "-f", &file.display().to_string()])?;
        Ok(())
    }
}
