//! The shop in the cluster, and a developer's own process of it on the laptop.

use std::{
    fs,
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, ensure};
use fairlead_lab::{ImageName, Lab};
use serde_json::Value;

use crate::{command::say, patience::within, pods};

pub(crate) const NAMESPACE: &str = "shop";
const MANIFESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/shop/manifests");
/// As the manifests have them.
const IMAGE: &str = "docker.io/local/shop:dev";
const PULL_POLICY: &str = "imagePullPolicy: IfNotPresent";
/// What a connection meets that does not come to be. Any other error was somebody's answer.
const NOBODY_THERE: [&str; 4] =
    ["timed out", "connection refused", "host unreachable", "network unreachable"];
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

    /// Brings the image of the built program, applies the manifests and waits until every workload is available.
    pub fn open(lab: &'w Lab) -> anyhow::Result<Self> {
        lab.bring_image("shop")?;
        let shop = Self { lab };
        say(lab.kubectl(["apply", "-f", &format!("{MANIFESTS}/namespace.yaml")]))?.ok()?;
        let manifest = lab.folder().join("shop.yaml");
        fs::write(&manifest, manifest_with(&lab.cluster().image("shop")?)?)?;
        say(lab.kubectl(["apply", "-f", &manifest.display().to_string()]))?.ok()?;
        shop.is_open()?;
        Ok(shop)
    }

    /// Waits until every pod is ready and none is on its way out.
    pub fn is_open(&self) -> anyhow::Result<()> {
        within(READY_WITHIN, "the shop's pods are ready", || {
            let get = self.lab.kubectl(["-n", NAMESPACE, "get", "pods", "-o", "json"]);
            let pods = say(get)?.ok()?.json()?;
            let pods = pods["items"].as_array().context("a list")?;
            if let Some(hopeless) = pods::without_an_image(pods) {
                return Ok(Err(hopeless));
            }
            ensure!(pods.len() >= 9, "{} pods", pods.len());
            let here =
                |pod: &Value| pods::is_ready(pod) && pod["metadata"]["deletionTimestamp"].is_null();
            ensure!(pods.iter().all(here), "not all of {} pods are ready", pods.len());
            Ok(Ok(()))
        })?
        .0
    }

    /// Has a pod connect to a port of an address, as a client that waits for no answer.
    pub(crate) fn reaches(&self, address: SocketAddr) -> anyhow::Result<()> {
        let (target, frontend) = (address.to_string(), "deployment/frontend");
        let exec = self.lab.kubectl([
            "-n",
            NAMESPACE,
            "exec",
            frontend,
            "--",
            "/shop",
            "connect",
            &target,
            "--every-ms=1000",
            "--for-s=1",
        ]);
        let tally = say(exec)?.ok()?.json()?;
        let met = tally["errors"].as_object().context("what it met")?.keys().cloned();
        let met: Vec<_> = met.filter(|error| NOBODY_THERE.contains(&error.as_str())).collect();
        ensure!(met.is_empty(), "a pod of the shop gets no connection to {address}: {met:?}");
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

/// Returns the manifests, which name the image of the lab's own nodes, with the image of the cluster at hand.
fn manifest_with(image: &ImageName) -> anyhow::Result<String> {
    let manifest = fs::read_to_string(format!("{MANIFESTS}/shop.yaml"))?;
    ensure!(
        manifest.contains(IMAGE) && manifest.contains(PULL_POLICY),
        "the shop's manifests name other images"
    );
    let pull_policy = format!("imagePullPolicy: {}", image.pull_policy);
    Ok(manifest.replace(IMAGE, &image.reference()).replace(PULL_POLICY, &pull_policy))
}
