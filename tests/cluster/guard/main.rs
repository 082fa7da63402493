//! The agent's rights on a real API server: what its account may do, and everything it may not.
//!
//! One lab, no pods: admission is decided by the API server alone. The forbidden writes are tried by an account that
//! RBAC allows everything, so that what denies them can only be the guard.

mod forbidden;
mod objects;

use std::{fs, time::Duration};

use anyhow::ensure;
use fairlead_lab::{Host, Lab, Options, tools};
use fairlead_tests::{Said, say, within};
use tempfile::TempDir;

const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/charts/agent-cluster");
const VALUES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/values/lab.yaml");
const SHOP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/shop/manifests");
const ACCOUNT: &str = "system:serviceaccount:fairlead-system:fairlead-agent";
/// The API server compiles new policies and roles in the background.
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn the_agent_may_redirect_and_restore_and_nothing_else() -> anyhow::Result<()> {
    let cluster = Cluster::up()?;
    every_pod_is_restricted(&cluster)?;
    the_sequence_of_an_intercept_is_allowed(&cluster)?;

    cluster.give_every_right()?;
    let refused = forbidden::all();
    let mut wrong = Vec::new();
    for attempt in &refused {
        let said = cluster.attempt(attempt)?;
        if said.code == Some(0) || !said.stderr.contains(attempt.because) {
            wrong.push(format!("{}: {said}", attempt.what));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), refused.len(), wrong.join("\n"));
    cluster.lab.down()
}

/// Asked of the API server: it warns about pods that a namespace's profile would turn away.
fn every_pod_is_restricted(cluster: &Cluster) -> anyhow::Result<()> {
    let pods = ["-n", "fairlead-system", "get", "pods", "-o", "name"];
    within(PATIENCE, "agents and janitor are made", || {
        let pods = say(cluster.lab.kubectl(pods))?.ok()?;
        ensure!(pods.stdout.lines().count() == 3, "{pods}");
        Ok(())
    })?;
    let warned = |namespace: &str| -> anyhow::Result<bool> {
        let label = "pod-security.kubernetes.io/enforce=restricted";
        let try_it = ["label", "namespace", namespace, "--dry-run=server", label];
        Ok(say(cluster.lab.kubectl(try_it))?.ok()?.stderr.contains("violate"))
    };
    ensure!(warned("closed")?, "the API server does not warn about a pod that is not restricted");
    ensure!(!warned("fairlead-system")?, "a pod of the chart does not meet the restricted profile");
    Ok(())
}

/// Slice, key, the change of the slice to the original pods, key off, slice off: with the chart's rights alone.
fn the_sequence_of_an_intercept_is_allowed(cluster: &Cluster) -> anyhow::Result<()> {
    let slice = objects::slice("shop", "cart", cluster.uid_of("shop", "cart")?.as_str());
    within(PATIENCE, "the agent's role is in force", || {
        cluster.agent(&["create"], Some(&slice))?.ok()
    })?;
    let patch = |what: &str, name: &str, patch: &str| {
        cluster.agent(&["-n", "shop", "patch", what, name, "--type=json", "-p", patch], None)?.ok()
    };
    patch("service", "cart", objects::KEY_ON)?;
    let keyed =
        cluster.agent(&["get", "services", "-A", "-l", "fairlead.dev/intercepted"], None)?.ok()?;
    ensure!(keyed.stdout.contains("cart"), "{keyed}");
    patch("endpointslice", "fl-guard-v4", objects::TO_THE_PODS)?;
    patch("service", "cart", objects::KEY_OFF)?;
    cluster.agent(&["-n", "shop", "delete", "endpointslice", "fl-guard-v4"], None)?.ok()?;
    cluster.agent(&["create"], Some(objects::EVENT))?.ok()?;
    Ok(())
}

struct Cluster {
    lab: Lab,
    /// Objects for kubectl to read.
    folder: TempDir,
}

impl Cluster {
    /// Starts a lab, applies the shop's objects, a closed namespace and the chart.
    fn up() -> anyhow::Result<Self> {
        let options =
            Options { name: "guard".to_owned(), ends_with_me: true, ..Options::default() };
        let cluster = Cluster { lab: Lab::up(&options)?, folder: tempfile::tempdir()? };
        say(cluster.lab.kubectl(["apply", "-f", &format!("{SHOP}/namespace.yaml")]))?.ok()?;
        say(cluster.lab.kubectl(["apply", "-f", SHOP]))?.ok()?;
        say(cluster.lab.kubectl(["apply", "-f", &cluster.file(objects::CLOSED)?]))?.ok()?;
        let mut helm = cluster.lab.exec(Host::Api, tools::helm()?);
        helm.arg("--kubeconfig").arg(cluster.lab.kubeconfig());
        helm.args(["install", "fairlead", CHART, "--values", VALUES]);
        helm.args(["--namespace", "fairlead-system", "--create-namespace"]);
        say(helm)?.ok()?;
        Ok(cluster)
    }

    /// Binds the agent's account to cluster-admin: from here on only the guard stands in its way.
    fn give_every_right(&self) -> anyhow::Result<()> {
        say(self.lab.kubectl([
            "create",
            "clusterrolebinding",
            "everything",
            "--clusterrole=cluster-admin",
            "--serviceaccount=fairlead-system:fairlead-agent",
        ]))?
        .ok()?;
        within(PATIENCE, "the binding is in force", || {
            self.agent(&["auth", "can-i", "delete", "services", "-n", "shop"], None)?.ok()
        })?;
        Ok(())
    }

    fn attempt(&self, attempt: &forbidden::Attempt) -> anyhow::Result<Said> {
        let words: Vec<&str> = attempt.words.iter().map(String::as_str).collect();
        self.agent(&words, attempt.object.as_deref())
    }

    /// Runs kubectl as the agent, on `object` where there is one.
    fn agent(&self, words: &[&str], object: Option<&str>) -> anyhow::Result<Said> {
        let mut kubectl = self.lab.kubectl(["--as", ACCOUNT]);
        kubectl.args(words);
        if let Some(object) = object {
            kubectl.args(["-f", &self.file(object)?]);
        }
        say(kubectl)
    }

    fn file(&self, object: &str) -> anyhow::Result<String> {
        let path = self.folder.path().join("object.yaml");
        fs::write(&path, object)?;
        Ok(path.display().to_string())
    }

    fn uid_of(&self, namespace: &str, service: &str) -> anyhow::Result<String> {
        let path = "jsonpath={.metadata.uid}";
        let get = ["-n", namespace, "get", "service", service, "-o", path];
        Ok(say(self.lab.kubectl(get))?.ok()?.stdout)
    }
}
