//! The shop in the cluster, and a developer's own process of it on the laptop.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, ensure};
use fairlead_lab::{Image, Lab, sibling};
use serde_json::Value;

use crate::{command::say, patience::within};

pub(crate) const NAMESPACE: &str = "shop";
const MANIFESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/shop/manifests");
const IMAGE: &str = "docker.io/local/shop:dev";
const READY_WITHIN: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy)]
pub struct Shop<'w> {
    lab: &'w Lab,
}

impl<'w> Shop<'w> {
    /// Returns the shop that is open already.
    pub const fn attached(lab: &'w Lab) -> Self {
        Self { lab }
    }

    /// Makes the image of the built program and imports it on the nodes.
    pub fn import(lab: &Lab, folder: &Path) -> anyhow::Result<()> {
        let archive = folder.join("shop.tar");
        Image::new(IMAGE).program("shop", sibling("shop")?).write(&archive)?;
        lab.import_image(&archive)
    }

    /// Applies the manifests and waits until every workload is available.
    pub fn open(lab: &'w Lab) -> anyhow::Result<Self> {
        let shop = Self { lab };
        say(lab.kubectl(["apply", "-f", &format!("{MANIFESTS}/namespace.yaml")]))?.ok()?;
        say(lab.kubectl(["apply", "-f", MANIFESTS]))?.ok()?;
        shop.is_open()?;
        Ok(shop)
    }

    /// Waits until every pod is ready and none is on its way out.
    pub fn is_open(&self) -> anyhow::Result<()> {
        within(READY_WITHIN, "the shop's pods are ready", || {
            let get = self.lab.kubectl(["-n", NAMESPACE, "get", "pods", "-o", "json"]);
            let pods = say(get)?.ok()?.json()?;
            let pods = pods["items"].as_array().context("a list")?;
            ensure!(pods.len() >= 9, "{} pods", pods.len());
            let here = |pod: &Value| ready(pod) && pod["metadata"]["deletionTimestamp"].is_null();
            ensure!(pods.iter().all(here), "not all of {} pods are ready", pods.len());
            Ok(())
        })?;
        Ok(())
    }
}

/// Returns the name in an answer of the shop.
pub fn answered_by(answer: &Value) -> anyhow::Result<String> {
    Ok(answer["answered_by"]["name"].as_str().with_context(|| answer.to_string())?.to_owned())
}

/// A role of the shop as a process on the laptop: the developer's own.
#[derive(Debug)]
pub struct OwnProcess(Child);

impl OwnProcess {
    /// Starts `shop`, which `command` runs as its user, in a role of its own.
    pub(crate) fn start(
        mut command: Command,
        role: &str,
        port: u16,
        name: &str,
        words: &[&str],
    ) -> anyhow::Result<Self> {
        command
            .args([role, "--listen", &format!("127.0.0.1:{port}"), "--name", name])
            .args(words)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Ok(Self(command.spawn()?))
    }
}

impl Drop for OwnProcess {
    fn drop(&mut self) {
        let ended = self.0.kill().and_then(|()| self.0.wait());
        ended.map(drop).unwrap_or_default();
    }
}

fn ready(pod: &Value) -> bool {
    pod["status"]["conditions"].as_array().is_some_and(|conditions| {
        conditions.iter().any(|c| c["type"] == "Ready" && c["status"] == "True")
    })
}
