//! The agent's rights on a real API server: what its account may do, and everything it may not.
//!
//! One lab, no pods: admission is decided by the API server alone. The forbidden writes are tried by an account that
//! RBAC allows everything, so that what denies them can only be the guard.

mod forbidden;
mod objects;

use std::{fs, time::Duration};

use anyhow::{Context, bail, ensure};
use fairlead_lab::{Lab, Options, ProxyMode, tools};
use fairlead_tests::{Said, say, within};
use serde_json::Value;
use tempfile::TempDir;

const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/charts/agent-cluster");
const VALUES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/values/lab.yaml");
const SHOP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/shop/manifests");
const AGENT: &str = "fairlead-agent";
const JANITOR: &str = "fairlead-agent-janitor";
/// The API server compiles new policies and roles in the background.
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn the_agent_may_redirect_and_restore_and_nothing_else() -> anyhow::Result<()> {
    let cluster = Cluster::up()?;
    every_pod_is_restricted(&cluster)?;
    the_sequence_of_an_intercept_is_allowed(&cluster)?;
    giving_back_is_allowed_whatever_happened(&cluster)?;
    that_nobody_owns_anything_can_be_written_back(&cluster)?;

    cluster.give_every_right()?;
    let refused = forbidden::all();
    let mut wrong = Vec::new();
    for account in [AGENT, JANITOR] {
        for attempt in &refused {
            let said = cluster.attempt(account, attempt)?;
            if said.code == Some(0) || !said.stderr.contains(attempt.because) {
                wrong.push(format!("{account}, {}: {said}", attempt.what));
            }
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

/// Slice, key, the change of the slice to the original pods, key off, marks off, slice off: with the chart's rights
/// alone, the agent's and the janitor's for what each of them does.
fn the_sequence_of_an_intercept_is_allowed(cluster: &Cluster) -> anyhow::Result<()> {
    cluster.is_intercepted()?;
    let keyed =
        cluster.says(AGENT, &["get", "services", "-A", "-l", "fairlead.dev/intercepted"], None)?;
    ensure!(keyed.ok()?.stdout.contains("cart"));
    for account in [AGENT, JANITOR] {
        cluster.is_intercepted()?;
        cluster.is_given_back_by(account)?;
    }
    cluster.says(AGENT, &["create"], Some(objects::EVENT))?.ok()?;
    Ok(())
}

/// What owners may do while a Service is intercepted, and what must be possible all the same.
fn giving_back_is_allowed_whatever_happened(cluster: &Cluster) -> anyhow::Result<()> {
    let shop = |label: &str| say(cluster.lab.kubectl(["label", "namespace", "shop", label]))?.ok();
    let owner = |patch: &str| {
        let patched = ["-n", "shop", "patch", "service", "cart", "--type=json", "-p", patch];
        say(cluster.lab.kubectl(patched))?.ok()
    };
    for account in [AGENT, JANITOR] {
        cluster.is_intercepted()?;
        shop("fairlead.dev/deny=true")?;
        for patch in
            [objects::OTHER_KEY, objects::OTHER_INFO, objects::LABEL_OFF, objects::INFO_OFF]
        {
            let said = cluster.patches(account, "service", "cart", patch)?;
            ensure!(said.stderr.contains("closed to the cluster agent"), "{patch}: {said}");
        }
        cluster.patches(account, "service", "cart", objects::WRITE_BACK)?.ok()?;
        cluster.is_given_back_by(account).context("in a namespace that was closed meanwhile")?;
        shop("fairlead.dev/deny-")?;

        cluster.is_intercepted()?;
        owner(objects::OWNERS_KEYS_OFF)?;
        cluster.is_given_back_by(account).context("without a key of the owner's own")?;
        owner(r#"[{"op": "add", "path": "/spec/selector", "value": {"app": "cart"}}]"#)?;
    }
    Ok(())
}

/// How the API server reads a list of one empty entry; the agent relies on it.
fn that_nobody_owns_anything_can_be_written_back(cluster: &Cluster) -> anyhow::Result<()> {
    ensure!(cluster.owners()?.is_array(), "nobody owned anything before");
    let nobody = r#"[{"op": "add", "path": "/metadata/managedFields", "value": [{}]}]"#;
    cluster.patches(AGENT, "service", "cart", nobody)?.ok()?;
    ensure!(cluster.owners()?.is_null(), "somebody owns something");
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
        let kubernetes = fairlead_lab::Cluster::ours(ProxyMode::Iptables)?;
        let options = Options { name: "guard".to_owned(), cluster: kubernetes, ends_with_me: true };
        let cluster = Cluster { lab: Lab::up(&options)?, folder: tempfile::tempdir()? };
        say(cluster.lab.kubectl(["apply", "-f", &format!("{SHOP}/namespace.yaml")]))?.ok()?;
        say(cluster.lab.kubectl(["apply", "-f", SHOP]))?.ok()?;
        say(cluster.lab.kubectl(["apply", "-f", &cluster.file(objects::CLOSED)?]))?.ok()?;
        let mut helm = cluster.lab.helm(&tools::helm()?);
        helm.args(["install", "fairlead", CHART, "--values", VALUES]);
        helm.args(["--namespace", "fairlead-system", "--create-namespace"]);
        say(helm)?.ok()?;
        Ok(cluster)
    }

    /// Has the agent put slice and key on, in that order.
    fn is_intercepted(&self) -> anyhow::Result<()> {
        let slice = objects::slice("shop", "cart", self.uid_of("shop", "cart")?.as_str());
        within(PATIENCE, "the agent's role is in force", || {
            let said = self.says(AGENT, &["create"], Some(&slice))?;
            ensure!(said.code == Some(0) || said.stderr.contains("already exists"), "{said}");
            Ok(())
        })?;
        self.patches(AGENT, "service", "cart", objects::KEY_ON)?.ok()?;
        Ok(())
    }

    /// Has an account turn the slice to the pods, take the key off, then the marks, and then the slice.
    fn is_given_back_by(&self, account: &str) -> anyhow::Result<()> {
        self.patches(account, "endpointslice", "fl-guard-v4", objects::TO_THE_PODS)?.ok()?;
        self.patches(account, "service", "cart", objects::KEY_OFF)?.ok()?;
        self.patches(account, "service", "cart", objects::MARKS_OFF)?.ok()?;
        self.owns_nothing()?;
        let delete = ["-n", "shop", "delete", "endpointslice", "fl-guard-v4"];
        self.says(account, &delete, None)?.ok()?;
        Ok(())
    }

    /// Who takes away and writes back who owned what, owns nothing afterwards: else it would take a third patch.
    fn owns_nothing(&self) -> anyhow::Result<()> {
        let fields = self.owners()?;
        let [only] = fields.as_array().context("owners")?.as_slice() else { bail!("{fields}") };
        ensure!(only["manager"] == "kubectl-client-side-apply", "{fields}");
        Ok(())
    }

    /// Returns who owns what of the cart.
    fn owners(&self) -> anyhow::Result<Value> {
        let get = ["-n", "shop", "get", "service", "cart", "-o", "json", "--show-managed-fields"];
        let mut cart = say(self.lab.kubectl(get))?.ok()?.json()?;
        Ok(cart["metadata"]["managedFields"].take())
    }

    fn patches(&self, account: &str, kind: &str, name: &str, patch: &str) -> anyhow::Result<Said> {
        let words = ["-n", "shop", "patch", kind, name, "--type=json", "-p", patch];
        self.says(account, &words, None)
    }

    /// Binds both accounts to cluster-admin: from here on only the guard stands in its way.
    fn give_every_right(&self) -> anyhow::Result<()> {
        say(self.lab.kubectl([
            "create",
            "clusterrolebinding",
            "everything",
            "--clusterrole=cluster-admin",
            "--serviceaccount=fairlead-system:fairlead-agent",
            "--serviceaccount=fairlead-system:fairlead-agent-janitor",
        ]))?
        .ok()?;
        for account in [AGENT, JANITOR] {
            within(PATIENCE, "the binding is in force", || {
                let asks = ["auth", "can-i", "delete", "services", "-n", "shop"];
                self.says(account, &asks, None)?.ok()
            })?;
        }
        Ok(())
    }

    fn attempt(&self, account: &str, attempt: &forbidden::Attempt) -> anyhow::Result<Said> {
        let words: Vec<&str> = attempt.words.iter().map(String::as_str).collect();
        self.says(account, &words, attempt.object.as_deref())
    }

    /// Runs kubectl as an account of the chart, on `object` where there is one.
    fn says(&self, account: &str, words: &[&str], object: Option<&str>) -> anyhow::Result<Said> {
        let account = format!("system:serviceaccount:fairlead-system:{account}");
        let mut kubectl = self.lab.kubectl(["--as", &account]);
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
