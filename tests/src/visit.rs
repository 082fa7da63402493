//! A visit to somebody's own cluster: what is looked at before anything is put there, and what is taken away at its end.
//!
//! Two namespaces are the visitor's, and what the agent's chart makes beside them; nothing else is changed.

use std::{io::Write, os::unix::process::CommandExt as _, path::PathBuf, process::Command};

use anyhow::{Context, ensure};
use fairlead_lab::{Another, Step, tools};

use crate::{
    agent,
    command::{Said, say},
    shop,
};

const NAMESPACES: [&str; 2] = [shop::NAMESPACE, agent::NAMESPACE];
/// What must be allowed for the namespaces, the agent's roles and its guard.
const MAKES: [&str; 4] = [
    "namespaces",
    "clusterroles.rbac.authorization.k8s.io",
    "clusterrolebindings.rbac.authorization.k8s.io",
    "validatingadmissionpolicies.admissionregistration.k8s.io",
];

#[derive(Debug)]
pub struct Visit {
    another: Another,
    helm: PathBuf,
    /// The namespaces that are the visitor's to take away.
    made: Vec<&'static str>,
}

impl Visit {
    /// Says which cluster this is, and makes the namespaces. Whoever may not, or finds one of them there, leaves
    /// everything as it is.
    pub fn begins(another: Another, out: &mut impl Write) -> anyhow::Result<Self> {
        let (context, server) = (another.context(), another.server());
        writeln!(out, "The demo uses the cluster at {server} (context `{context}`).")?;
        writeln!(
            out,
            "It makes the namespaces {} there, installs the agent, and takes all of it away at its end.",
            NAMESPACES.join(" and ")
        )?;
        writeln!(out, "Pods will find the hub at {}.", another.hub_address())?;
        out.flush()?;
        Self { another, helm: tools::helm()?, made: Vec::new() }.settled()
    }

    fn settled(mut self) -> anyhow::Result<Self> {
        self.is_allowed()?;
        self.is_no_intrusion()?;
        if let Err(error) = self.settles() {
            self.ends()?;
            return Err(error);
        }
        Ok(self)
    }

    /// Takes away whatever the visitor put into the cluster, and returns when it is gone.
    ///
    /// Without the chart's hook, which gives Services back: those that may be intercepted go with their namespace.
    pub fn ends(self) -> anyhow::Result<()> {
        if self.made.is_empty() {
            return Ok(());
        }
        Step::run("everything is taken out of the cluster", || {
            // One after the other, whatever became of those before.
            let closed = self.closes_the_shop();
            let uninstalled = self.uninstalls();
            let deleted = self.deletes();
            closed.and(uninstalled).and(deleted)
        })
        .with_context(|| format!("something is left in the cluster; {}", by_hand()))
    }

    fn is_allowed(&self) -> anyhow::Result<()> {
        for kind in MAKES {
            let said = self.kubectl(&["auth", "can-i", "create", kind, "--all-namespaces"])?;
            ensure!(
                said.stdout.trim() == "yes",
                "you may not create {kind} in this cluster; the demo needs the rights of a cluster administrator \
                 (nothing was touched)\n{}",
                said.stderr
            );
        }
        Ok(())
    }

    fn is_no_intrusion(&self) -> anyhow::Result<()> {
        let words = [&["get", "namespaces", "--ignore-not-found", "-o", "name"], &NAMESPACES[..]];
        let there = self.kubectl(&words.concat())?.ok()?.stdout.trim().replace('\n', ", ");
        ensure!(
            there.is_empty(),
            "the cluster has {there} already, which the demo would make and take away: it does not start, and nothing \
             was touched\nhint: choose another cluster; what a demo that was killed has left, {}",
            by_hand()
        );
        Ok(())
    }

    /// Whoever creates a namespace at the same moment keeps it: then this fails.
    fn settles(&mut self) -> anyhow::Result<()> {
        for namespace in NAMESPACES {
            self.kubectl(&["create", "namespace", namespace])?.ok()?;
            self.made.push(namespace);
        }
        Ok(())
    }

    /// A namespace that still has pods when it is first looked at is looked at again only half their grace later.
    fn closes_the_shop(&self) -> anyhow::Result<()> {
        let delete = ["delete", "deployments,statefulsets", "--all", "--wait=false"];
        self.kubectl(&[&delete[..], &["--namespace", shop::NAMESPACE]].concat())?.ok()?;
        Ok(())
    }

    fn uninstalls(&self) -> anyhow::Result<()> {
        if !self.made.contains(&agent::NAMESPACE) {
            return Ok(()); // What is installed there is somebody else's.
        }
        let mut helm = self.another.helm(&self.helm);
        helm.args(["uninstall", agent::RELEASE, "--namespace", agent::NAMESPACE]);
        helm.args(["--no-hooks", "--ignore-not-found"]);
        undisturbed(helm)?.ok()?;
        Ok(())
    }

    fn deletes(&self) -> anyhow::Result<()> {
        let delete = ["delete", "namespaces", "--ignore-not-found", "--timeout=180s"];
        self.kubectl(&[&delete, &self.made[..]].concat())?.ok()?;
        Ok(())
    }

    fn kubectl(&self, words: &[&str]) -> anyhow::Result<Said> {
        let mut kubectl = self.another.kubectl();
        kubectl.args(words);
        undisturbed(kubectl)
    }
}

fn by_hand() -> String {
    format!(
        "is removed by: helm uninstall {} --namespace {} --no-hooks; kubectl delete namespaces {}",
        agent::RELEASE,
        agent::NAMESPACE,
        NAMESPACES.join(" ")
    )
}

/// Whoever presses Ctrl-C twice does not end the tidying up.
fn undisturbed(mut command: Command) -> anyhow::Result<Said> {
    command.process_group(0);
    say(command)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn a_namespace_that_somebody_made_meanwhile_stays_with_all_that_is_installed_there() {
        let cluster = Cluster::whose_programs(&format!(
            "case \"$*\" in *'create namespace {}'*) exit 1;; esac",
            agent::NAMESPACE
        ));
        cluster.visit().settled().expect_err("it is there");
        let asked = cluster.asked();
        let refused = asked.iter().position(|asked| asked.contains("create namespace fairlead"));
        let after = &asked[refused.expect("it was tried") + 1..];
        assert!(!after.iter().any(|asked| asked.contains(agent::NAMESPACE)), "{after:#?}");
        assert!(after.iter().any(|asked| asked.contains("delete namespaces")), "{after:#?}");
    }

    #[test]
    fn a_visitor_takes_its_own_release_along() {
        let cluster = Cluster::whose_programs("");
        cluster.visit().settled().expect("nobody minds").ends().expect("nobody minds");
        let uninstalls = |asked: &String| asked.contains("uninstall fairlead ");
        assert!(cluster.asked().iter().any(uninstalls), "{:#?}", cluster.asked());
    }

    /// A cluster whose `kubectl` and `helm` note what they are asked.
    struct Cluster(TempDir);

    impl Cluster {
        /// After a note they do what this line of a shell says.
        fn whose_programs(act: &str) -> Self {
            let folder = TempDir::new().expect("a folder");
            let at = |name: &str| folder.path().join(name);
            let says = "case \"$*\" in *can-i*) echo yes;; esac";
            let script = format!("#!/bin/sh\necho \"$*\" >> {:?}\n{says}\n{act}\n", at("asked"));
            fs::write(at("script"), script).expect("written");
            // Not written here: while another test starts a program, that one could hold it open for writing.
            for program in ["kubectl", "helm"] {
                let mut install = Command::new("install");
                install.args([at("script"), at(program)]);
                say(install).and_then(Said::ok).expect("installed");
            }
            Self(folder)
        }

        fn visit(&self) -> Visit {
            let another = json!({
                "kubeconfig": "theirs",
                "context": "theirs",
                "server": "https://theirs",
                "hub_address": "127.0.0.1",
                "repository": null,
                "kubectl": self.0.path().join("kubectl"),
                "remembered": self.0.path(),
            });
            let another = serde_json::from_value(another).expect("as it was found");
            Visit { another, helm: self.0.path().join("helm"), made: Vec::new() }
        }

        fn asked(&self) -> Vec<String> {
            let asked = fs::read_to_string(self.0.path().join("asked")).expect("noted");
            asked.lines().map(str::to_owned).collect()
        }
    }
}
