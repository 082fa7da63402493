//! A watch on objects of the cluster: what the API server publishes, each with the moment at which it was heard.

use std::{
    cell::RefCell,
    process::{Child, Stdio},
    sync::mpsc::{Receiver, channel},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use fairlead_lab::Lab;
use serde_json::Value;

/// One version of an object.
#[derive(Debug, Clone)]
pub struct Published {
    pub at: Instant,
    pub is_deleted: bool,
    pub object: Value,
}

#[derive(Debug)]
pub struct Watch {
    kubectl: Child,
    published_rx: Receiver<Published>,
    /// Heard when it was waited for whether the watch has begun, and not looked at yet.
    first: RefCell<Option<Published>>,
}

impl Watch {
    /// Begins to watch what `kubectl get` with these words shows; it tells first what is there already.
    pub fn begins(lab: &Lab, words: &[&str]) -> anyhow::Result<Self> {
        let mut kubectl = lab
            .kubectl(["get", "--watch", "--output-watch-events", "-o", "json"])
            .args(words)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot watch the cluster")?;
        let stdout = kubectl.stdout.take().context("piped")?;
        let (published_tx, published_rx) = channel();
        std::thread::spawn(move || {
            let events = serde_json::Deserializer::from_reader(stdout).into_iter::<Value>();
            for mut event in events.map_while(Result::ok) {
                let published = Published {
                    at: Instant::now(),
                    is_deleted: event["type"] == "DELETED",
                    object: event["object"].take(),
                };
                if published_tx.send(published).is_err() {
                    return;
                }
            }
        });
        Ok(Self { kubectl, published_rx, first: RefCell::default() })
    }

    /// Waits until it tells what is there already: from then on it misses nothing.
    pub fn has_begun(self, patience: Duration) -> anyhow::Result<Self> {
        let first = self.published_rx.recv_timeout(patience);
        self.first.replace(Some(first.context("the watch tells nothing")?));
        Ok(self)
    }

    /// Waits for a version that is as wanted, past all that came before it.
    pub fn until(
        &self,
        patience: Duration,
        what: &str,
        is_wanted: impl Fn(&Published) -> bool,
    ) -> anyhow::Result<Published> {
        let deadline = Instant::now() + patience;
        if let Some(first) = self.first.take().filter(&is_wanted) {
            return Ok(first);
        }
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.published_rx.recv_timeout(left) {
                Ok(published) if is_wanted(&published) => return Ok(published),
                Ok(_) => {}
                Err(_) => bail!("{what}: the cluster did not publish it within {patience:?}"),
            }
        }
    }

    /// Returns every version that was heard of and not looked at yet.
    #[must_use]
    pub fn so_far(&self) -> Vec<Published> {
        self.first.take().into_iter().chain(self.published_rx.try_iter()).collect()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let ended = self.kubectl.kill().and_then(|()| self.kubectl.wait());
        ended.map(drop).unwrap_or_default();
    }
}
