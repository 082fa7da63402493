//! What the agent is told: its command line and its environment, read once, each with its default and its reason.
//! Nothing else in this program reads the environment.

use std::{net::IpAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand};
use fairlead_model::{InvalidProxySettings, Namespace, ProxySettings};
use fairlead_tunnel::connect::{Connector, HubTrust, TrustError};

use crate::names::Owner;

#[derive(Debug, Parser)]
#[command(
    name = "fairlead-agent",
    about = "The cluster agent of Fairlead",
    disable_version_flag = true
)]
pub(crate) struct Command {
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

impl Command {
    /// Reads the command line, and of the environment what has no flag.
    pub(crate) fn read() -> Result<Self, InvalidProxySettings> {
        let mut command = Self::parse();
        if let Verb::Run(run) = &mut command.verb {
            run.proxies = ProxySettings::read(variable)?;
        }
        Ok(command)
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the file that reads the environment")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Serves this cluster: links to the hub, consumes, intercepts.
    Run(Box<Run>),
    /// Gives intercepted Services back when no agent can.
    Janitor(Place),
    /// Gives intercepted Services back once and ends; what the chart runs before it is removed.
    Restore(Restore),
    /// Prints the version.
    Version,
}

#[derive(Debug, Args)]
pub(crate) struct Restore {
    #[command(flatten)]
    pub(crate) place: Place,
    /// Every Service this installation intercepts. Required, so that nobody restores a cluster by a slip.
    #[arg(long, required = true)]
    pub(crate) all: bool,
}

/// Where this pod is and what it may look at; the same for every command.
#[derive(Clone, Debug, Args)]
pub(crate) struct Place {
    /// The namespace the agent is installed in: its Lease, its pods and its Secret are there.
    #[arg(long, env = "FAIRLEAD_NAMESPACE", default_value = "fairlead-system")]
    pub(crate) namespace: String,
    /// Selects the pods of the agent's Deployment.
    #[arg(
        long,
        env = "FAIRLEAD_AGENT_SELECTOR",
        default_value = "app.kubernetes.io/instance=fairlead,app.kubernetes.io/component=agent"
    )]
    pub(crate) agent_selector: String,
    /// Namespaces to serve; empty means all of them.
    #[arg(long, env = "FAIRLEAD_NAMESPACES", value_delimiter = ',', value_parser = namespace)]
    pub(crate) namespaces: Vec<Option<Namespace>>,
    /// What is logged, as `tracing` filters are written.
    #[arg(long, env = "FAIRLEAD_LOG", default_value = "info")]
    pub(crate) log: String,
    #[arg(long, env = "FAIRLEAD_HEALTH_PORT", default_value_t = 8081)]
    pub(crate) health_port: u16,
}

/// An empty word is what an unset list in a chart's template becomes.
fn namespace(text: &str) -> Result<Option<Namespace>, String> {
    match text.trim() {
        "" => Ok(None),
        name => Namespace::parse(name).map(Some).map_err(|e| e.to_string()),
    }
}

impl Place {
    pub(crate) fn owner(&self) -> Owner {
        Owner::of(&self.namespace, &self.agent_selector)
    }

    /// Returns the namespaces to watch; `None` stands for the whole cluster.
    pub(crate) fn scopes(&self) -> Vec<Option<Namespace>> {
        let named: Vec<_> = self.namespaces.iter().flatten().cloned().map(Some).collect();
        if named.is_empty() { vec![None] } else { named }
    }
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) place: Place,
    #[arg(long, env = "FAIRLEAD_POD_NAME")]
    pub(crate) pod_name: String,
    #[arg(long, env = "FAIRLEAD_POD_IP")]
    pub(crate) pod_ip: IpAddr,
    #[arg(long, env = "FAIRLEAD_POD_UID", default_value = "")]
    pub(crate) pod_uid: String,
    #[arg(long, env = "FAIRLEAD_NODE_NAME", default_value = "")]
    pub(crate) node_name: String,
    /// `https://hub.example.com`
    #[arg(long, env = "FAIRLEAD_HUB_URL")]
    pub(crate) hub_url: String,
    /// PEM of the authority that signed the hub's certificate, when the system does not know it.
    #[arg(long, env = "FAIRLEAD_HUB_CA_FILE")]
    pub(crate) hub_ca_file: Option<PathBuf>,
    /// HTTPS_PROXY, ALL_PROXY and NO_PROXY: through whom the hub is dialled. No flags, since an address may hold a
    /// password. The cluster's own API is always dialled directly.
    #[arg(skip)]
    pub(crate) proxies: ProxySettings,
    /// Read once, at enrolment; the file may be missing afterwards.
    #[arg(long, env = "FAIRLEAD_JOIN_TOKEN_FILE")]
    pub(crate) join_token_file: Option<PathBuf>,
    /// The Secret, made empty by the chart, that keeps the teamspace key.
    #[arg(long, env = "FAIRLEAD_IDENTITY_SECRET", default_value = "fairlead-agent-identity")]
    pub(crate) identity_secret: String,
    /// Where replicas hear each other.
    #[arg(long, env = "FAIRLEAD_PEER_PORT", default_value_t = 8082)]
    pub(crate) peer_port: u16,
}

impl Run {
    /// Returns how the hub is dialled.
    pub(crate) fn connector(&self) -> Result<Connector, TrustError> {
        let trust = HubTrust::new(self.hub_ca_file.as_deref())?;
        Ok(Connector::new(self.proxies.clone(), trust))
    }
}

#[cfg(test)]
impl Run {
    /// A replica as the chart starts it, for tests of what is not configuration.
    pub(crate) fn any() -> Self {
        let line = [
            "fairlead-agent",
            "run",
            "--pod-name",
            "agent-1",
            "--pod-ip",
            "10.244.1.7",
            "--hub-url",
            "https://hub.test",
        ];
        match Command::try_parse_from(line).expect("valid").verb {
            Verb::Run(run) => *run,
            _ => unreachable!("the verb was run"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_list_of_namespaces_means_the_whole_cluster() {
        let command = |namespaces: &str| {
            let line = ["fairlead-agent", "janitor", "--namespaces", namespaces];
            match Command::try_parse_from(line).expect("valid").verb {
                Verb::Janitor(place) => place.scopes(),
                _ => unreachable!("the verb was janitor"),
            }
        };
        assert_eq!(command(""), vec![None]);
        assert_eq!(command("shop,pay").len(), 2);
    }

    #[test]
    fn restore_asks_for_all_in_words() {
        assert!(Command::try_parse_from(["fairlead-agent", "restore"]).is_err());
    }
}
