//! What must be the same after a scenario as before it: in the cluster by content, on the laptop byte for byte.

use std::{collections::BTreeMap, fmt::Write as _};

use anyhow::{Context, ensure};
use fairlead_lab::{Host, Lab};
use serde_json::{Value, json};

use crate::{command::say, shop};

/// A canonical dump: one text per thing that could have been changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Residue(BTreeMap<&'static str, String>);

impl Residue {
    /// Dumps Services, EndpointSlices and namespaces, and of the laptop: nftables, mounts, links, addresses, rules of
    /// routing and the bytes of the hosts file.
    ///
    /// Not the nftables and iptables of the nodes: kube-proxy writes them all the time, in an order and with counters of
    /// its own, and Fairlead never does; what it changed for a Service shows in the Service and its EndpointSlices.
    pub fn of(lab: &Lab) -> anyhow::Result<Self> {
        let on_laptop = |program: &str, arguments: &[&str]| -> anyhow::Result<String> {
            let mut command = lab.exec(Host::Laptop, program);
            command.args(arguments);
            Ok(say(command)?.ok()?.stdout)
        };
        Ok(Self(BTreeMap::from([
            ("services", services(lab)?),
            ("endpoint slices", endpoint_slices(lab)?),
            ("nftables of the laptop", on_laptop("nft", &["list", "ruleset"])?),
            ("mounts of the laptop", on_laptop("cat", &["/proc/self/mounts"])?),
            ("namespaces", namespaces(lab)?),
            ("links of the laptop", on_laptop("ip", &["-brief", "link"])?),
            ("addresses of the laptop", on_laptop("ip", &["-brief", "address"])?),
            ("routing rules of the laptop", on_laptop("ip", &["rule"])?),
            ("/etc/hosts of the laptop", on_laptop("cat", &["/etc/hosts"])?),
        ])))
    }

    #[must_use]
    pub fn whole(self) -> Self {
        self
    }

    /// Returns only what concerns the laptop, for scenarios in which the cluster's owner changes the cluster.
    #[must_use]
    pub fn on_the_laptop(mut self) -> Self {
        self.0.retain(|what, _| what.ends_with("of the laptop"));
        self
    }

    /// Leaves out the namespaces, for scenarios that take pods away for good.
    #[must_use]
    pub fn without_pods(mut self) -> Self {
        self.0.remove("namespaces");
        self
    }

    /// Returns the lines that differ from `before`; an error when there are any.
    pub fn is_the_same_as(&self, before: &Self) -> anyhow::Result<()> {
        let mut differences = String::new();
        for (what, now) in &self.0 {
            let then = &before.0[what];
            if then == now {
                continue;
            }
            writeln!(differences, "{what}:")?;
            for line in then.lines().filter(|line| !now.contains(*line)) {
                writeln!(differences, "  - {line}")?;
            }
            for line in now.lines().filter(|line| !then.contains(*line)) {
                writeln!(differences, "  + {line}")?;
            }
        }
        ensure!(differences.is_empty(), "something was left behind\n{differences}");
        Ok(())
    }
}

/// Network and mount namespaces by content: what runs first in each. Their numbers, and those of processes, are new
/// each time.
fn namespaces(lab: &Lab) -> anyhow::Result<String> {
    let mut command = lab.exec(Host::Laptop, "lsns");
    command.args(["--noheadings", "--output", "TYPE,COMMAND", "--type", "net", "--type", "mnt"]);
    let mut lines: Vec<_> = say(command)?.ok()?.stdout.lines().map(str::to_owned).collect();
    lines.sort();
    Ok(lines.join("\n"))
}

/// Services whole, managed fields included; only the counter that each write moves is left out.
fn services(lab: &Lab) -> anyhow::Result<String> {
    let list = listed(lab, &["services", "--show-managed-fields"])?;
    dump(list, |mut service| {
        service["metadata"].as_object_mut()?.remove("resourceVersion");
        Some(service)
    })
}

/// EndpointSlices by what they say, since Kubernetes may replace one by another that says the same.
fn endpoint_slices(lab: &Lab) -> anyhow::Result<String> {
    let list = listed(lab, &["endpointslices"])?;
    dump(list, |slice| {
        let labels = &slice["metadata"]["labels"];
        let mut endpoints: Vec<String> =
            slice["endpoints"].as_array().into_iter().flatten().map(Value::to_string).collect();
        endpoints.sort();
        Some(json!({
            "service": labels["kubernetes.io/service-name"],
            "namespace": slice["metadata"]["namespace"],
            "managed by": labels["endpointslice.kubernetes.io/managed-by"],
            "ports": slice["ports"],
            "endpoints": endpoints,
        }))
    })
}

/// Lists objects of all namespaces; on a cluster that is shared those of the shop, which others do not change.
fn listed(lab: &Lab, words: &[&str]) -> anyhow::Result<Value> {
    let scope = match lab.cluster().is_shared() {
        true => ["--namespace", shop::NAMESPACE].as_slice(),
        false => ["--all-namespaces"].as_slice(),
    };
    let mut get = lab.kubectl(["get", "-o", "json"]);
    get.args(scope).args(words);
    say(get)?.ok()?.json()
}

fn dump(list: Value, keep: impl Fn(Value) -> Option<Value>) -> anyhow::Result<String> {
    let items = list["items"].as_array().context("a list")?.clone();
    let mut kept = items
        .into_iter()
        .filter(|item| item["metadata"]["namespace"] != crate::agent::NAMESPACE)
        .filter_map(keep)
        .map(|item| serde_json::to_string_pretty(&item))
        .collect::<Result<Vec<_>, _>>()?;
    kept.sort();
    Ok(kept.join("\n"))
}
