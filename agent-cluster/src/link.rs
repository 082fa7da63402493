//! The link to the hub: dialled from here, begun with a challenge, kept alive by heartbeats, begun again when lost.
//! It only carries words; what they ask for happens elsewhere.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, anyhow, bail};
use fairlead_model::{SessionId, timers};
use fairlead_tunnel::{
    Backoff,
    connect::{HubTrust, dial_hub},
};
use fairlead_wire::{
    challenge,
    link::v1::{
        CarrierOffer, ClusterDown, ClusterUp, Heartbeat, Hello, cluster_down::Message as Down,
        cluster_links_client::ClusterLinksClient, cluster_up::Message as Up,
    },
};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, timeout, timeout_at},
};
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};
use tracing::{info, warn};

use crate::{
    catalogue::{Catalogue, catalogue, news},
    config::Run,
    enrol::{ReplicaKey, advise},
    report::{FirstUse, Observed, first_use_to_wire, observed_to_wire},
    wanted::Wanted,
    watch::Inventory,
    workload::Workloads,
};

/// Messages under way to the hub. A full queue means that the hub does not read: the link begins anew.
const UP_QUEUE: usize = 256;
/// Changes of the catalogue are gathered for this long.
const GATHER: Duration = Duration::from_millis(200);

/// What the hub asks for by name, for whoever serves it.
#[derive(Debug)]
pub(crate) enum Asked {
    Carrier(Box<CarrierOffer>),
    Revoked { session: SessionId, reason: String },
}

/// What the link reads and writes; wired up in `assemble.rs`.
pub(crate) struct Link {
    pub(crate) run: Arc<Run>,
    pub(crate) identity: watch::Receiver<Arc<ReplicaKey>>,
    pub(crate) inventory: watch::Receiver<Inventory>,
    pub(crate) workloads: Workloads,
    pub(crate) observed: watch::Receiver<Observed>,
    pub(crate) first_uses: mpsc::Receiver<FirstUse>,
    pub(crate) wanted: watch::Sender<Option<Arc<Wanted>>>,
    pub(crate) asked: mpsc::Sender<Asked>,
    /// Whether a link stands.
    pub(crate) linked: watch::Sender<bool>,
    pub(crate) stopping: CancellationToken,
}

impl Link {
    /// Keeps one link for as long as the process lives.
    pub(crate) async fn keep(mut self) {
        let mut backoff = Backoff::new();
        let mut lost_at = Instant::now();
        loop {
            match self.open().await {
                Ok(mut open) => {
                    info!(hub = self.run.hub_url, "Linked to the hub");
                    backoff = Backoff::new();
                    self.linked.send_replace(true);
                    let ended = open.serve(&mut self).await;
                    self.linked.send_replace(false);
                    lost_at = Instant::now();
                    warn!("The link to the hub is lost: {ended:#}");
                }
                Err(error) => warn!("No link to the hub: {error:#}"),
            }
            self.forget_when_grants_are_over(lost_at);
            tokio::time::sleep(backoff.next_delay()).await;
        }
    }

    /// What was wanted holds while the hub is away, but no longer than a grant would.
    fn forget_when_grants_are_over(&self, lost_at: Instant) {
        let known =
            self.wanted.borrow().as_ref().is_some_and(|wanted| **wanted != Wanted::default());
        if known && lost_at.elapsed() > timers::GRANT_LIFE {
            warn!("The hub has been away for too long: every session ends");
            self.wanted.send_replace(Some(Arc::new(Wanted::default())));
        }
    }

    async fn open(&self) -> anyhow::Result<Open<Streaming<ClusterDown>>> {
        let trust = HubTrust::new(self.run.hub_ca_file.as_deref())?;
        let hub = dial_hub(&self.run.hub_url, &trust)
            .await
            .map_err(|e| anyhow!(advise(&e, &self.run)))?;
        let (up_tx, up_rx) = mpsc::channel(UP_QUEUE);
        let mut links = ClusterLinksClient::new(hub.channel());
        let reply = timeout(timers::LINK_DEAD, links.open(ReceiverStream::new(up_rx))).await;
        let mut down = reply.context("the hub did not answer in time")??.into_inner();
        let Down::Challenge(challenge) = hear(&mut down, soon()).await? else {
            bail!("the hub began without a challenge")
        };
        let hello = self.hello(&challenge.nonce, hub.host());
        up_tx.send(ClusterUp { message: Some(Up::Hello(hello)) }).await?;
        let Down::Welcome(welcome) = hear(&mut down, soon()).await? else {
            bail!("the hub did not welcome us")
        };
        info!(hub_replica = welcome.hub_replica, "The hub knows this replica");
        Ok(Open { down, up_tx, told: None, said: Observed::new() })
    }

    fn hello(&self, nonce: &[u8], hub_host: &str) -> Hello {
        let identity = Arc::clone(&self.identity.borrow());
        Hello {
            certificate_chain: identity
                .chain
                .iter()
                .map(|certificate| certificate.to_vec())
                .collect(),
            signature: challenge::sign(&identity.key, nonce, hub_host).to_vec(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            name: self.run.pod_name.clone(),
            time_s: jiff::Timestamp::now().as_second(),
        }
    }
}

/// What the hub says, as it arrives.
trait Words: Stream<Item = Result<ClusterDown, Status>> + Unpin {}

impl<S: Stream<Item = Result<ClusterDown, Status>> + Unpin> Words for S {}

/// When a hub that says nothing more from now on is given up.
fn soon() -> Instant {
    Instant::now() + timers::LINK_DEAD
}

async fn hear(down: &mut impl Words, until: Instant) -> anyhow::Result<Down> {
    let message = timeout_at(until, down.next()).await.context("the hub is silent")?;
    let message = message.context("the hub closed the link")?;
    let message = message.map_err(|status| anyhow!("the hub said: {}", status.message()))?;
    message.message.context("the hub said nothing that we understand")
}

/// A link that was welcomed, and what the hub has been told on it.
struct Open<S> {
    down: S,
    up_tx: mpsc::Sender<ClusterUp>,
    told: Option<Catalogue>,
    said: Observed,
}

impl<S: Words> Open<S> {
    /// Serves the link until it ends; the error says why.
    async fn serve(&mut self, link: &mut Link) -> anyhow::Error {
        let mut beat = tokio::time::interval(timers::LINK_HEARTBEAT);
        let mut gather = tokio::time::interval(GATHER);
        let mut stale = true;
        // Counted from what was heard last, whatever else happens meanwhile.
        let mut silent_at = soon();
        link.observed.mark_changed();
        loop {
            let step = tokio::select! {
                heard = hear(&mut self.down, silent_at) => match heard {
                    Ok(message) => {
                        silent_at = soon();
                        take(message, link).await
                    }
                    Err(error) => Err(error),
                },
                _ = beat.tick() => self.say(Up::Heartbeat(Heartbeat {})),
                _ = gather.tick(), if stale => {
                    stale = false;
                    self.tell_catalogue(link)
                }
                Ok(()) = link.inventory.changed() => { stale = true; Ok(()) }
                Ok(()) = link.workloads.news.changed() => { stale = true; Ok(()) }
                Ok(()) = link.observed.changed() => self.tell_observed(link),
                Some(first_use) = link.first_uses.recv() => self.say(Up::FirstUse(first_use_to_wire(&first_use))),
            };
            if let Err(error) = step {
                return error;
            }
        }
    }

    fn say(&self, message: Up) -> anyhow::Result<()> {
        self.up_tx
            .try_send(ClusterUp { message: Some(message) })
            .context("the hub does not read what it is told")
    }

    fn tell_catalogue(&mut self, link: &mut Link) -> anyhow::Result<()> {
        let inventory = link.inventory.borrow_and_update();
        if !inventory.synced() {
            return Ok(());
        }
        let now = catalogue(&inventory, &link.workloads, link.run.pod_ip.is_ipv6());
        drop(inventory);
        for message in news(self.told.as_ref(), &now) {
            self.say(Up::Catalogue(message))?;
        }
        self.told = Some(now);
        Ok(())
    }

    fn tell_observed(&mut self, link: &mut Link) -> anyhow::Result<()> {
        let now = link.observed.borrow_and_update().clone();
        for (session, (phase, detail)) in &now {
            if self.said.get(session) != Some(&(*phase, detail.clone())) {
                self.say(Up::Observed(observed_to_wire(
                    *session,
                    *phase,
                    detail,
                    &link.run.pod_name,
                )))?;
            }
        }
        self.said = now;
        Ok(())
    }
}

/// Passes on what the hub says.
async fn take(message: Down, link: &Link) -> anyhow::Result<()> {
    match message {
        Down::Heartbeat(_) => Ok(()),
        Down::Wanted(wanted) => {
            let wanted = Wanted::from_wire(wanted);
            info!(
                consumes = wanted.consumes.len(),
                intercepts = wanted.intercepts.len(),
                "The hub says what should be"
            );
            link.wanted.send_replace(Some(Arc::new(wanted)));
            Ok(())
        }
        // A replica that stops takes nothing new.
        Down::Carrier(_) if link.stopping.is_cancelled() => Ok(()),
        Down::Carrier(offer) => pass_on(link, Asked::Carrier(Box::new(offer))).await,
        Down::Revoked(revoked) => match revoked.session_id.parse() {
            Ok(session) => pass_on(link, Asked::Revoked { session, reason: revoked.reason }).await,
            Err(_) => Ok(()),
        },
        Down::Challenge(_) | Down::Welcome(_) => {
            bail!("the hub began again in the middle of a link")
        }
    }
}

async fn pass_on(link: &Link, asked: Asked) -> anyhow::Result<()> {
    link.asked.send(asked).await.map_err(|_| anyhow!("the agent is ending"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::enrol;

    fn link() -> Link {
        Link {
            run: Arc::new(Run::any()),
            identity: enrol::any_replica_key(),
            inventory: watch::channel(Inventory::default()).1,
            workloads: Workloads::unknown(),
            observed: watch::channel(Observed::new()).1,
            first_uses: mpsc::channel(1).1,
            wanted: watch::Sender::new(None),
            asked: mpsc::channel(1).0,
            linked: watch::Sender::new(true),
            stopping: CancellationToken::new(),
        }
    }

    /// The hub's half is gone without a word, as behind a cut cable; our own heartbeats go on being written.
    #[tokio::test(start_paused = true)]
    async fn a_hub_that_says_nothing_is_given_up_however_much_it_is_told() {
        let (up_tx, mut up_rx) = mpsc::channel(UP_QUEUE);
        let reading = tokio::spawn(async move { while up_rx.recv().await.is_some() {} });
        let down = tokio_stream::pending();
        let mut open = Open { down, up_tx, told: None, said: Observed::new() };
        let begun = Instant::now();
        let ended = open.serve(&mut link()).await;
        assert!(ended.to_string().contains("silent"), "{ended:#}");
        assert_eq!(begun.elapsed().as_secs(), timers::LINK_DEAD.as_secs());
        reading.abort();
    }
}
