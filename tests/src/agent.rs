//! The cluster agent, installed by its chart as an administrator of the cluster would.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use fairlead_lab::{Host, Lab, tools};
use serde_json::{Value, json};

use crate::{
    command::{Said, say},
    hub,
    patience::within,
    pods,
    process::Process,
    shop,
};

/// Where the agent is installed.
pub const NAMESPACE: &str = "fairlead-system";
pub(crate) const RELEASE: &str = "fairlead";
const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/charts/agent-cluster");
const DEPLOYMENT: &str = "deployment/fairlead-agent";
const PROGRAM: &str = "fairlead-agent";
const READY_WITHIN: Duration = Duration::from_secs(90);
const COMPONENT: &str = "app.kubernetes.io/component";
/// Names the replica that writes Services and slices.
const WRITER_LEASE: &str = "fairlead-agent-writer";

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

    /// Brings the image of the built program to where its pods find it.
    pub fn import(lab: &'w Lab) -> anyhow::Result<()> {
        lab.bring_image(PROGRAM)
    }

    /// Installs the chart with a fresh join token and waits until both replicas and the janitor are ready.
    pub fn install(lab: &'w Lab, hub_ca: &Path, join_token: &str) -> anyhow::Result<Self> {
        let agent = Self { lab };
        agent.prepare_namespace()?;
        let (cluster, image) = (lab.cluster(), lab.cluster().image(PROGRAM)?);
        let mut helm = agent.helm()?;
        helm.args(["upgrade", "--install", RELEASE, CHART, "--namespace", NAMESPACE])
            .args(["--set", &format!("hub.url={}", hub::URL)])
            .args(["--set", &format!("hub.hostAliases[0].ip={}", cluster.hub_address())])
            .args(["--set", "hub.hostAliases[0].hostnames[0]=hub.fairlead.test"])
            .args(["--set", &format!("image.repository={}", image.repository)])
            .args(["--set-string", &format!("image.tag={}", image.tag)])
            .args(["--set", &format!("image.pullPolicy={}", image.pull_policy)])
            .args(["--set", &format!("joinToken.value={join_token}")])
            .arg("--set-file")
            .arg(format!("hub.caCertificate={}", hub_ca.display()));
        if let Some(range) = cluster.pod_network() {
            helm.args(["--set", &format!("guard.podCIDRs[0]={range}")]);
        }
        if cluster.is_shared() {
            helm.args(["--set", &format!("namespaces[0]={}", shop::NAMESPACE)]);
        }
        say(helm)?.ok()?;
        agent.wait_ready()?;
        Ok(agent)
    }

    /// Makes the namespace one in which nothing may run that asks for more than the restricted profile gives.
    fn prepare_namespace(&self) -> anyhow::Result<()> {
        let namespace = json!({
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {
                "name": NAMESPACE,
                "labels": {"pod-security.kubernetes.io/enforce": "restricted"},
            },
        });
        let file = self.lab.folder().join("agent-namespace.json");
        fs::write(&file, namespace.to_string())?;
        say(self.lab.kubectl(["apply", "--filename", &file.display().to_string()]))?.ok()?;
        Ok(())
    }

    /// Has the release reach the hub through this proxy (none, when it is empty), and trust these authorities.
    pub fn goes_through(&self, proxy: &str, authorities: &Path) -> anyhow::Result<()> {
        let mut helm = self.helm()?;
        helm.args(["upgrade", RELEASE, CHART, "--namespace", NAMESPACE, "--reuse-values"])
            .args(["--set", &format!("proxy.https={proxy}")])
            .arg("--set-file")
            .arg(format!("hub.caCertificate={}", authorities.display()));
        say(helm)?.ok()?;
        self.kubectl(&["rollout", "status", DEPLOYMENT, "--timeout=90s"])?;
        self.wait_ready()
    }

    /// Removes the release; the chart's hook restores what is intercepted.
    pub fn uninstall(self) -> anyhow::Result<()> {
        let mut helm = self.helm()?;
        helm.args(["uninstall", RELEASE, "--namespace", NAMESPACE, "--wait"]);
        say(helm)?.ok()?;
        Ok(())
    }

    /// Waits until every pod of the release is ready, and none is on its way out.
    pub fn wait_ready(&self) -> anyhow::Result<()> {
        within(READY_WITHIN, "the agent's pods are ready", || {
            let pods = self.pods()?;
            if let Some(hopeless) = pods::without_an_image(&pods) {
                return Ok(Err(hopeless));
            }
            let ready = pods.iter().filter(|pod| pods::is_ready(pod)).count();
            ensure!(ready == 3 && pods.len() == 3, "{ready} of {} pods are ready", pods.len());
            Ok(Ok(()))
        })
        .with_context(|| self.log().unwrap_or_default())?
        .0
    }

    /// Returns the names of the replicas' pods that are there to stay: two, unless something happens to them.
    pub fn replicas(&self) -> anyhow::Result<Vec<String>> {
        let names = self.pods()?.into_iter().filter_map(|pod| {
            let stays = pod["metadata"]["deletionTimestamp"].is_null();
            let agent = pod["metadata"]["labels"][COMPONENT] == "agent";
            (agent && stays).then(|| name_of(&pod))
        });
        Ok(names.collect())
    }

    /// Returns the pod of the replica that writes Services and slices.
    pub fn writer(&self) -> anyhow::Result<String> {
        let replicas = self.replicas()?;
        let holder = "jsonpath={.spec.holderIdentity}";
        let (writer, _) = within(READY_WITHIN, "a replica holds the writer's Lease", || {
            let writer = self.kubectl(&["get", "lease", WRITER_LEASE, "-o", holder])?;
            ensure!(replicas.contains(&writer), "`{writer}` holds it");
            Ok(writer)
        })?;
        Ok(writer)
    }

    /// Returns the pod of the replica that does not write.
    pub fn other_replica(&self) -> anyhow::Result<String> {
        let writer = self.writer()?;
        let other = self.replicas()?.into_iter().find(|replica| *replica != writer);
        other.context("there is no other replica")
    }

    /// Returns the node on which a pod runs.
    pub fn host_of(&self, pod: &str) -> anyhow::Result<Host> {
        self.kubectl(&["get", "pod", pod, "-o", "jsonpath={.spec.nodeName}"])?.parse()
    }

    /// Finds a replica's process, for killing it as the kernel would; the kubelet restarts its container.
    pub fn process_of(pod: &str) -> anyhow::Result<Process> {
        Process::with("fairlead-agent", &format!("FAIRLEAD_POD_NAME={pod}"))
    }

    /// Kills a replica's process and returns the moment at which it was gone.
    pub fn kill_replica(pod: &str) -> anyhow::Result<Instant> {
        Self::process_of(pod)?.kill()
    }

    /// Deletes pods of replicas at once, as when their nodes are taken away; others are started where there is a node.
    ///
    /// In one command: of two that were killed, the kubelet would restart the second one before its turn came.
    pub fn delete_replicas(&self, pods: &[String]) -> anyhow::Result<()> {
        let pods = pods.iter().map(String::as_str);
        let at_once = ["--force", "--grace-period=0", "--wait=false"];
        let words: Vec<_> = ["delete", "pod"].into_iter().chain(pods).chain(at_once).collect();
        self.kubectl(&words)?;
        Ok(())
    }

    /// Replaces pods whose containers have died: the kubelet waits longer before each restart of a container, and the
    /// next story must not wait for what this one did.
    pub fn renews_what_died(&self) -> anyhow::Result<()> {
        let died = |pod: &Value| {
            let restarts = &pod["status"]["containerStatuses"][0]["restartCount"];
            restarts.as_u64().is_some_and(|restarts| restarts > 0)
        };
        let replicas = self.replicas()?;
        let pods = self.pods()?;
        let died: Vec<_> = pods.iter().filter(|pod| died(pod)).map(name_of).collect();
        let died: Vec<_> = died.into_iter().filter(|pod| replicas.contains(pod)).collect();
        if !died.is_empty() {
            self.delete_replicas(&died)?;
        }
        self.wait_ready()
    }

    /// Replaces both replicas in the orderly way and returns when the new ones are there.
    pub fn rolls_out(&self) -> anyhow::Result<()> {
        self.kubectl(&["rollout", "restart", DEPLOYMENT])?;
        self.kubectl(&["rollout", "status", DEPLOYMENT, "--timeout=90s"])?;
        Ok(())
    }

    /// Returns the last lines that the replicas logged.
    pub fn log(&self) -> anyhow::Result<String> {
        let agents = format!("{COMPONENT}=agent");
        let logs = ["-n", NAMESPACE, "logs", "-l", &agents, "--tail", "40", "--prefix"];
        let Said { stdout, stderr, .. } = say(self.lab.kubectl(logs))?;
        Ok(stdout + &stderr)
    }

    fn kubectl(&self, words: &[&str]) -> anyhow::Result<String> {
        let mut kubectl = self.lab.kubectl(["-n", NAMESPACE]);
        kubectl.args(words);
        Ok(say(kubectl)?.ok()?.stdout)
    }

    fn pods(&self) -> anyhow::Result<Vec<Value>> {
        let pods =
            say(self.lab.kubectl(["-n", NAMESPACE, "get", "pods", "-o", "json"]))?.ok()?.json()?;
        Ok(pods["items"].as_array().context("a list")?.clone())
    }

    fn helm(&self) -> anyhow::Result<std::process::Command> {
        Ok(self.lab.helm(&tools::helm()?))
    }
}

fn name_of(pod: &Value) -> String {
    pod["metadata"]["name"].as_str().unwrap_or_default().to_owned()
}
