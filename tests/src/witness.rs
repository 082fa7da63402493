//! A watch that is started before a scenario and can swear afterwards that no application pod was touched.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::{Child, Stdio},
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context, ensure};
use fairlead_lab::Lab;
use serde_json::Value;

use crate::{command::say, shop};

/// What a pod is known by: uid, restarts of its containers, its specification.
type Seen = BTreeMap<String, Vec<String>>;

#[derive(Debug)]
pub struct Witness {
    /// The pods that were there when the watch began.
    known: BTreeSet<String>,
    /// Taken by whoever asks whether it still watches.
    kubectl: Mutex<Child>,
    seen: Arc<Mutex<Seen>>,
}

impl Witness {
    /// Begins to watch the shop's pods.
    pub fn begins(lab: &Lab) -> anyhow::Result<Self> {
        let names = "jsonpath={.items[*].metadata.name}";
        let known = say(lab.kubectl(["-n", shop::NAMESPACE, "get", "pods", "-o", names]))?.ok()?;
        let known = known.stdout.split_whitespace().map(str::to_owned).collect();
        let mut kubectl = lab
            .kubectl(["-n", shop::NAMESPACE, "get", "pods", "--watch", "-o", "json"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot watch pods")?;
        let stdout = kubectl.stdout.take().context("piped")?;
        let seen = Arc::new(Mutex::new(Seen::new()));
        let recorded = Arc::clone(&seen);
        std::thread::spawn(move || {
            let pods = serde_json::Deserializer::from_reader(stdout).into_iter::<Value>();
            for pod in pods.map_while(Result::ok) {
                let mut seen = recorded.lock().unwrap_or_else(PoisonError::into_inner);
                let states = seen.entry(text(&pod["metadata"]["name"])).or_default();
                let state = state_of(&pod);
                if !states.contains(&state) {
                    states.push(state);
                }
            }
        });
        Ok(Self { known, kubectl: Mutex::new(kubectl), seen })
    }

    /// Returns an error that shows every pod that came, restarted or was changed since the watch began.
    ///
    /// A watch that ended on the way has seen nothing after that, and swears nothing.
    pub fn saw_no_change(&self) -> anyhow::Result<()> {
        self.still_watches()?;
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        ensure!(!seen.is_empty(), "the watch has seen no pod at all");
        let changed: Vec<_> = seen
            .iter()
            .filter(|(name, states)| states.len() > 1 || !self.known.contains(*name))
            .collect();
        ensure!(changed.is_empty(), "application pods changed: {changed:#?}");
        Ok(())
    }

    fn still_watches(&self) -> anyhow::Result<()> {
        let mut kubectl = self.kubectl.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = kubectl.try_wait()?;
        ensure!(ended.is_none(), "the watch ended before the scenario did: {ended:?}");
        Ok(())
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        let kubectl = self.kubectl.get_mut().unwrap_or_else(PoisonError::into_inner);
        let ended = kubectl.kill().and_then(|()| kubectl.wait());
        ended.map(drop).unwrap_or_default();
    }
}

fn state_of(pod: &Value) -> String {
    let restarts: u64 = pod["status"]["containerStatuses"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|container| container["restartCount"].as_u64())
        .sum();
    format!("{} restarts={restarts} {}", text(&pod["metadata"]["uid"]), pod["spec"])
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
