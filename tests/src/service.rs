//! A Service of the cluster as its callers and its owner see it: who answers, and whether the key stands.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, ensure};
use fairlead_lab::{Host, Lab};
use serde_json::Value;

use crate::{
    caller::{Caller, ask_once},
    command::say,
    conversation::Conversation,
    patience::within,
    watch::{Published, Watch},
};

/// The selector key that an intercept puts on a Service.
pub const KEY: &str = "fairlead.dev/intercept";
/// Marks that an intercept leaves on a Service begin with this.
const MARK: &str = "fairlead.dev/";
/// The balancing is random: of two that share a Service, one alone answers so often once in a thousand times.
const IN_A_ROW: usize = 10;
const WATCHED_WITHIN: Duration = Duration::from_secs(10);

/// Watched and asked from the nodes, where a request is balanced as one from a pod.
#[derive(Debug, Clone)]
pub struct Service<'w> {
    lab: &'w Lab,
    namespace: String,
    name: String,
    address: SocketAddr,
}

impl<'w> Service<'w> {
    /// Finds a Service by its full name, `shop/cart`; its first port is the one that is asked.
    pub(crate) fn found(lab: &'w Lab, full_name: &str) -> anyhow::Result<Self> {
        let (namespace, name) = full_name.split_once('/').context("namespace/name")?;
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        let get = lab.kubectl(["-n", &namespace, "get", "service", &name, "-o", "json"]);
        let service = say(get)?.ok()?.json()?;
        let ip = service["spec"]["clusterIP"].as_str().context("a ClusterIP")?;
        let address = format!("{ip}:{}", service["spec"]["ports"][0]["port"]).parse()?;
        Ok(Self { lab, namespace, name, address })
    }

    /// Returns the same Service, asked on another of its ports.
    #[must_use]
    pub fn on_port(&self, port: u16) -> Self {
        Self { address: SocketAddr::new(self.address.ip(), port), ..self.clone() }
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Asks once from a host, over a connection of its own, and returns who answered.
    pub fn who_answers(&self, from: Host) -> anyhow::Result<String> {
        ask_once(self.lab, from, self.address)
    }

    /// Waits until new connections from both nodes are answered as wanted, several in a row.
    pub fn is_answered_by(
        &self,
        who: &str,
        wanted: impl Fn(&str) -> bool,
        patience: Duration,
    ) -> anyhow::Result<Duration> {
        self.is_answered_from(&Host::NODES, who, wanted, patience)
    }

    /// Waits until new connections from these hosts are answered as wanted, several in a row.
    pub fn is_answered_from(
        &self,
        hosts: &[Host],
        who: &str,
        wanted: impl Fn(&str) -> bool,
        patience: Duration,
    ) -> anyhow::Result<Duration> {
        let what = format!("{}/{} is answered by {who}", self.namespace, self.name);
        let ((), took) = within(patience, &what, || {
            for host in hosts.iter().copied().cycle().take(IN_A_ROW) {
                let answered = self.who_answers(host)?;
                ensure!(wanted(&answered), "answered by {answered}");
            }
            Ok(())
        })?;
        Ok(took)
    }

    /// Starts a caller on each node.
    pub fn callers(&self) -> anyhow::Result<Vec<Caller>> {
        Host::NODES.into_iter().map(|node| self.caller(node)).collect()
    }

    /// Starts a caller on one host.
    pub fn caller(&self, from: Host) -> anyhow::Result<Caller> {
        Caller::begins(self.lab, from, self.address)
    }

    /// Begins a conversation with it from a host, which lasts until it is dropped.
    pub fn conversation(&self, from: Host) -> anyhow::Result<Conversation> {
        Conversation::with(self.lab.exec(from, "curl"), &self.address.to_string())
    }

    /// Returns what the API server has of it.
    pub fn object(&self) -> anyhow::Result<Value> {
        self.kubectl(&["get", "service", &self.name, "-o", "json", "--show-managed-fields"])
            .and_then(|said| Ok(serde_json::from_str(&said)?))
    }

    /// Returns the value of the key, when it stands.
    pub fn key(&self) -> anyhow::Result<Option<String>> {
        Ok(key_of(&self.object()?).map(str::to_owned))
    }

    /// Waits until nothing of an intercept is on it: no key, no label, no annotation.
    pub fn is_given_back(&self, patience: Duration) -> anyhow::Result<()> {
        within(patience, "the Service is given back", || {
            let mut object = self.object()?;
            object["metadata"]["managedFields"] = Value::Null;
            ensure!(!object.to_string().contains(MARK), "{object}");
            Ok(())
        })?;
        Ok(())
    }

    /// Watches it from now on, beginning with what it is.
    pub fn watch(&self) -> anyhow::Result<Watch> {
        Watch::begins(self.lab, &["-n", &self.namespace, "services", &self.name])?
            .has_begun(WATCHED_WITHIN)
    }

    /// Runs kubectl in its namespace and returns what it printed.
    pub fn kubectl(&self, words: &[&str]) -> anyhow::Result<String> {
        let mut kubectl = self.lab.kubectl(["-n", &self.namespace]);
        kubectl.args(words);
        Ok(say(kubectl)?.ok()?.stdout)
    }
}

/// Says of a published Service whether the key stands.
#[must_use]
pub fn has_key(published: &Published) -> bool {
    key_of(&published.object).is_some()
}

fn key_of(service: &Value) -> Option<&str> {
    service["spec"]["selector"][KEY].as_str()
}
