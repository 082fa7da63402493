//! A cluster that somebody else made: found by a kubeconfig, and talked to through its API server from this machine.
//!
//! No host of the lab reaches it. Its pods reach this machine at one address, where a door leads to the hub.

use crate::{ImageName, cluster::NOWHERE, programs, run, tools};
use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{
    fs::{self, File},
    io,
    net::{IpAddr, Ipv4Addr, UdpSocket},
    path::{Path, PathBuf},
    process::Command,
};

/// A cluster of somebody's own, with everything that was found out about it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Another {
    kubeconfig: PathBuf,
    /// Held on to: whoever chooses another context meanwhile does not lead us to another cluster.
    context: String,
    server: String,
    hub_address: Ipv4Addr,
    /// Where nodes fetch our images; `None` when they were given them.
    repository: Option<String>,
    kubectl: PathBuf,
    /// Where kubectl and Helm keep what they remember of the cluster.
    remembered: PathBuf,
}

impl Another {
    /// Finds the cluster of a kubeconfig's current context and asks whether it answers; changes nothing there.
    ///
    /// `hub_address` is where its pods shall ask for the hub, unless that can be found out; `repository` is where its
    /// nodes find our images, unless they were given them. What is remembered of the cluster is kept in `remembered`,
    /// a folder of the caller's, for as long as it is talked to.
    pub fn found(
        kubeconfig: &Path,
        remembered: &Path,
        hub_address: Option<Ipv4Addr>,
        repository: Option<String>,
    ) -> anyhow::Result<Self> {
        let shown = kubeconfig.display();
        let kubeconfig = readable(kubeconfig)
            .with_context(|| format!("cannot read the kubeconfig {shown}: name one that exists"))?;
        let kubectl = tools::kubectl()?;
        let mut view = Command::new(&kubectl);
        view.arg("--kubeconfig").arg(&kubeconfig);
        let view = run::output(view.args(["config", "view", "--minify", "--output=json"]))
            .with_context(|| {
                format!(
                    "{shown} leads to no cluster; choose one of its contexts with: \
                     kubectl --kubeconfig {shown} config use-context NAME"
                )
            })?;
        let (context, server) = current(&view).with_context(|| format!("{shown}: {view}"))?;
        let hub_address = hub_address.unwrap_or(Ipv4Addr::UNSPECIFIED);
        let remembered = remembered.to_owned();
        let mut found =
            Self { kubeconfig, context, server, hub_address, repository, kubectl, remembered };
        found.answers()?;
        if found.hub_address.is_unspecified() {
            found.hub_address = found.way_to_the_nodes().context(
                "cannot find out at which address of this machine the cluster's pods reach it; \
                 name it: --hub-address IP",
            )?;
        }
        Ok(found)
    }

    /// Returns the address of the API server.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// Returns the context of the kubeconfig that is used.
    pub fn context(&self) -> &str {
        &self.context
    }

    /// Returns the address of this machine at which the cluster's pods ask for the hub.
    pub fn hub_address(&self) -> Ipv4Addr {
        self.hub_address
    }

    /// Returns `kubectl` for this cluster.
    pub fn kubectl(&self) -> Command {
        let mut kubectl = self.tied(&self.kubectl);
        kubectl.arg("--kubeconfig").arg(&self.kubeconfig).arg("--context").arg(&self.context);
        kubectl
    }

    /// Returns this Helm for this cluster.
    pub fn helm(&self, helm: &Path) -> Command {
        let mut helm = self.tied(helm);
        helm.arg("--kubeconfig").arg(&self.kubeconfig).arg("--kube-context").arg(&self.context);
        helm
    }

    pub(crate) fn image(&self, program: &str) -> anyhow::Result<ImageName> {
        image_in(self.repository.as_deref(), program)
    }

    /// A program that ends when whoever started it ends, so that nobody changes the cluster after that.
    fn tied(&self, program: &Path) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program);
        tools::remembering_in(command, &self.remembered)
    }

    fn answers(&self) -> anyhow::Result<()> {
        run::output(self.kubectl().args(["get", "--raw=/version", "--request-timeout=10s"]))
            .with_context(|| {
                format!(
                    "the API server {} does not answer; is the cluster up, and can this machine reach it?",
                    self.server
                )
            })?;
        Ok(())
    }

    /// The way to a node and not to the API server: that of a cluster in containers is a port of the loopback address.
    fn way_to_the_nodes(&self) -> anyhow::Result<Ipv4Addr> {
        let addresses = "jsonpath={.items[*].status.addresses[?(@.type==\"InternalIP\")].address}";
        let nodes = run::output(self.kubectl().args(["get", "nodes", "--output", addresses]))?;
        let node = nodes.split_whitespace().find_map(|node| node.parse::<Ipv4Addr>().ok());
        let node = node.with_context(|| format!("no node has an IPv4 address: {nodes}"))?;
        let towards = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        // Nothing is sent: the kernel only chooses a way.
        towards.connect((node, 9)).with_context(|| format!("no way to the node {node}"))?;
        match towards.local_addr()?.ip() {
            IpAddr::V4(own) if !own.is_loopback() => Ok(own),
            own => bail!("the way to the node {node} begins at {own}"),
        }
    }
}

/// Returns how the image of a program is called that is in no registry, or in a repository of one.
///
/// The tag is made of the program: a node that has an image of another version does not have this one.
pub fn image_in(repository: Option<&str>, program: &str) -> anyhow::Result<ImageName> {
    let content = fs::read(programs::sibling(program)?)?;
    Ok(ImageName {
        repository: format!("{}/{program}", repository.unwrap_or(NOWHERE)),
        tag: programs::hash([content]),
        // What was given to a node is asked of no registry: there it could be anybody's.
        pull_policy: if repository.is_some() { "IfNotPresent" } else { "Never" },
    })
}

fn readable(file: &Path) -> io::Result<PathBuf> {
    let file = fs::canonicalize(file)?;
    File::open(&file)?;
    Ok(file)
}

/// Reads context and server out of what `kubectl config view --minify` shows.
fn current(view: &str) -> anyhow::Result<(String, String)> {
    let view: Value = serde_json::from_str(view)?;
    let context = view["current-context"].as_str().context("no current context")?;
    let server = view["clusters"][0]["cluster"]["server"].as_str().context("no server")?;
    Ok((context.to_owned(), server.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn context_and_server_are_those_in_use() {
        let view = r#"{"current-context":"kind-a","clusters":[{"name":"kind-a","cluster":{"server":"https://127.0.0.1:4"}}]}"#;
        assert_eq!(current(view).unwrap(), ("kind-a".to_owned(), "https://127.0.0.1:4".to_owned()));
        assert!(current(r#"{"current-context":"kind-a","clusters":[]}"#).is_err());
    }
}
