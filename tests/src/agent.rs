//! The cluster agent, installed by its chart as an administrator of the cluster would.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, bail};
use fairlead_lab::{Host, Image, Lab, sibling, tools};
use serde_json::Value;

use crate::{
    command::{Said, say},
    hub,
    patience::within,
};

pub(crate) const NAMESPACE: &str = "fairlead-system";
const RELEASE: &str = "fairlead";
const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/charts/agent-cluster");
const IMAGE: &str = "docker.io/local/fairlead-agent:dev";
const READY_WITHIN: Duration = Duration::from_secs(90);

/// The installed agent: two replicas and a janitor.
#[derive(Debug, Clone, Copy)]
pub struct Agent<'w> {
    lab: &'w Lab,
}

impl<'w> Agent<'w> {
    /// Returns the agent that is installed already.
    pub const fn of(lab: &'w Lab) -> Self {
        Self { lab }
    }

    /// Makes the image of the built program and imports it on the nodes.
    pub fn import(lab: &'w Lab, folder: &Path) -> anyhow::Result<()> {
        let archive = folder.join("fairlead-agent.tar");
        Image::new(IMAGE).program("fairlead-agent", sibling("fairlead-agent")?).write(&archive)?;
        lab.import_image(&archive)
    }

    /// Installs the chart with a fresh join token and waits until both replicas and the janitor are ready.
    pub fn install(lab: &'w Lab, hub_ca: &Path, join_token: &str) -> anyhow::Result<Self> {
        let agent = Self { lab };
        let mut helm = agent.helm()?;
        helm.args([
            "upgrade",
            "--install",
            RELEASE,
            CHART,
            "--namespace",
            NAMESPACE,
            "--create-namespace",
        ])
        .args(["--set", &format!("hub.url={}", hub::URL)])
        .args(["--set", &format!("hub.hostAliases[0].ip={}", Host::Hub.address())])
        .args(["--set", "hub.hostAliases[0].hostnames[0]=hub.fairlead.test"])
        .args(["--set", "guard.podCIDRs[0]=10.244.0.0/16"])
        .args(["--set", &format!("joinToken.value={join_token}")])
        .arg("--set-file")
        .arg(format!("hub.caCertificate={}", hub_ca.display()));
        say(helm)?.ok()?;
        agent.wait_ready()?;
        Ok(agent)
    }

    /// Removes the release; the chart's hook restores what is intercepted.
    pub fn uninstall(self) -> anyhow::Result<()> {
        let mut helm = self.helm()?;
        helm.args(["uninstall", RELEASE, "--namespace", NAMESPACE, "--wait"]);
        say(helm)?.ok()?;
        Ok(())
    }

    /// Waits until every pod of the release is ready.
    pub fn wait_ready(&self) -> anyhow::Result<()> {
        within(READY_WITHIN, "the agent's pods are ready", || {
            let pods = self.pods()?;
            let ready = pods.iter().filter(|pod| is_ready(pod)).count();
            anyhow::ensure!(ready >= 3, "{ready} of 3 pods are ready\n{}", self.log()?);
            Ok(())
        })?;
        Ok(())
    }

    /// Returns the names of the two replicas' pods.
    pub fn replicas(&self) -> anyhow::Result<Vec<String>> {
        let component = "app.kubernetes.io/component";
        let names = self.pods()?.into_iter().filter_map(|pod| {
            let agent = pod["metadata"]["labels"][component] == "agent";
            agent.then(|| pod["metadata"]["name"].as_str().unwrap_or_default().to_owned())
        });
        Ok(names.collect::<Vec<_>>())
    }

    /// Kills a replica's process as the kernel would; the kubelet restarts its container.
    pub fn kill_replica(&self, pod: &str) -> anyhow::Result<()> {
        let mut kill = std::process::Command::new("kill");
        kill.args(["-KILL", &process_of(pod)?.to_string()]);
        say(kill)?.ok()?;
        Ok(())
    }

    /// Returns the last lines that the replicas logged.
    pub fn log(&self) -> anyhow::Result<String> {
        let component = "app.kubernetes.io/component=agent";
        let logs = ["-n", NAMESPACE, "logs", "-l", component, "--tail", "20", "--prefix"];
        let Said { stdout, stderr, .. } = say({
            let mut kubectl = self.lab.kubectl([]);
            kubectl.args(logs);
            kubectl
        })?;
        Ok(stdout + &stderr)
    }

    fn pods(&self) -> anyhow::Result<Vec<Value>> {
        let pods =
            say(self.lab.kubectl(["-n", NAMESPACE, "get", "pods", "-o", "json"]))?.ok()?.json()?;
        Ok(pods["items"].as_array().context("a list")?.clone())
    }

    fn helm(&self) -> anyhow::Result<std::process::Command> {
        let mut helm = self.lab.exec(Host::Api, tools::helm()?);
        helm.arg("--kubeconfig").arg(self.lab.kubeconfig());
        Ok(helm)
    }
}

fn is_ready(pod: &Value) -> bool {
    pod["status"]["conditions"].as_array().is_some_and(|conditions| {
        conditions.iter().any(|c| c["type"] == "Ready" && c["status"] == "True")
    })
}

/// Finds a replica's process by its environment: the lab's processes are visible from outside.
fn process_of(pod: &str) -> anyhow::Result<u32> {
    let wanted = format!("FAIRLEAD_POD_NAME={pod}");
    for process in fs::read_dir("/proc")?.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // It may have ended since the folder was read.
        let Ok(environment) = fs::read(process.path().join("environ")) else { continue };
        let Ok(program) = fs::read_link(process.path().join("exe")) else { continue };
        let is_it = environment.split(|byte| *byte == 0).any(|line| line == wanted.as_bytes());
        if is_it && program.ends_with("fairlead-agent") {
            return Ok(pid);
        }
    }
    bail!("no process of {pod} runs")
}
