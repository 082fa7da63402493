//! The link to the hub: dialled from here, begun with a challenge, begun again when lost. How it goes once the hub has
//! welcomed us is in `link/conversation.rs`.

mod conversation;

use std::{future::pending, sync::Arc};

use anyhow::{anyhow, bail};
use fairlead_model::{SessionId, timers};
use fairlead_tunnel::{
    Backoff,
    connect::{LinkWay, NotBegun, Ways, is_decision, is_unknown},
};
use fairlead_wire::{
    challenge,
    link::v1::{
        CarrierOffer, ClusterDown, ClusterUp, Hello, cluster_down::Message as Down,
        cluster_links_client::ClusterLinksClient, cluster_up::Message as Up,
    },
};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, Streaming};
use tracing::{info, warn};

use self::conversation::{Open, hear, soon};
use crate::{
    config::Run,
    enrol::{ReplicaKey, advise},
    intercept::originals::Counts,
    report::{FirstUse, Observed},
    wanted::Wanted,
    watch::Inventory,
    workload::Workloads,
};

/// Messages under way to the hub. A full queue means that the hub does not read: the link begins anew.
const UP_QUEUE: usize = 256;

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
    /// The ready pods behind the Services that are intercepted.
    pub(crate) originals: watch::Receiver<Counts>,
    /// The ready endpoints that a hub was told last, on whichever link.
    pub(crate) counted: Counts,
    pub(crate) workloads: Workloads,
    pub(crate) observed: watch::Receiver<Observed>,
    pub(crate) first_uses: mpsc::Receiver<FirstUse>,
    /// Sessions that want a further carrier.
    pub(crate) further: mpsc::Receiver<SessionId>,
    pub(crate) wanted: watch::Sender<Option<Arc<Wanted>>>,
    pub(crate) asked: mpsc::Sender<Asked>,
    /// A link that begins anew may do so in another network.
    pub(crate) ways: Ways,
    pub(crate) way: LinkWay,
    /// Whether a link stands.
    pub(crate) linked: watch::Sender<bool>,
    pub(crate) stopping: CancellationToken,
    /// Ends the link for good: a hub that has none offers nobody a way here.
    pub(crate) leaving: CancellationToken,
}

impl Link {
    /// Keeps one link until this replica leaves. What the hub wanted last is known for as long as the process lives:
    /// what is still carried rests on it.
    pub(crate) async fn keep(mut self) {
        let leaving = self.leaving.clone();
        tokio::select! {
            () = self.link_again_and_again() => {}
            () = leaving.cancelled() => {}
        }
        self.linked.send_replace(false);
        pending().await
    }

    async fn link_again_and_again(&mut self) {
        let mut backoff = Backoff::new();
        let mut lost_at = Instant::now();
        let mut said = String::new();
        loop {
            let opened = self.open().await;
            let decided = opened.as_ref().err().and_then(|error| error.downcast_ref::<Decided>());
            let is_decided = decided.is_some();
            let is_unknown = decided.is_some_and(|decided| decided.is_unknown);
            match opened {
                Ok(mut open) => {
                    info!(hub = self.run.hub_url, "Linked to the hub");
                    backoff = Backoff::new();
                    said.clear();
                    self.linked.send_replace(true);
                    self.ways.look_again();
                    let ended = open.serve(self).await;
                    self.linked.send_replace(false);
                    lost_at = Instant::now();
                    warn!("The link to the hub is lost: {ended:#}");
                }
                Err(error) => {
                    let reason = format!("{error:#}");
                    // While a hub restarts, every look would say the same.
                    if reason != said {
                        warn!("No link to the hub: {reason}");
                        said = reason;
                    }
                }
            }
            // What was wanted holds while the hub is away, but no longer than a grant would.
            if is_unknown {
                self.forget("The hub does not know this cluster");
            } else if lost_at.elapsed() > timers::GRANT_LIFE {
                self.forget("The hub has been away for too long");
            }
            let wait = if is_decided { backoff.next_delay() } else { backoff.next_look() };
            tokio::time::sleep(wait).await;
        }
    }

    /// Wants nothing any more: what is intercepted is given back.
    fn forget(&self, why: &str) {
        let nothing = Some(Arc::new(Wanted::default()));
        if *self.wanted.borrow() != nothing {
            warn!("{why}: every session ends");
            self.wanted.send_replace(nothing);
        }
    }

    async fn open(&mut self) -> anyhow::Result<Open<Streaming<ClusterDown>>> {
        let connector = self.run.connector()?;
        let hub = self.way.dial(&self.run.hub_url, &connector).await;
        let hub = hub.map_err(|error| anyhow!(advise(&error, &self.run)))?;
        let (up_tx, up_rx) = mpsc::channel(UP_QUEUE);
        let mut links = ClusterLinksClient::new(hub.channel());
        let begun = async {
            let mut down = links.open(ReceiverStream::new(up_rx)).await?.into_inner();
            Ok((down.message().await?, down))
        };
        let begun = self.way.first_word(begun).await;
        let (first, mut down) = begun.map_err(|error| match error {
            NotBegun::Refused(status) => refused(&status),
            silence @ NotBegun::HeldBack(_) => anyhow!(silence),
        })?;
        let Some(Down::Challenge(challenge)) = first.and_then(|said| said.message) else {
            bail!("the hub began without a challenge")
        };
        let hello = self.hello(&challenge.nonce, hub.host());
        up_tx.send(ClusterUp { message: Some(Up::Hello(hello)) }).await?;
        let answer = hear(&mut down, soon()).await;
        if answer.as_ref().is_err_and(|error| !error.is::<Decided>()) {
            self.way.was_not_understood();
        }
        let Down::Welcome(welcome) = answer? else { bail!("the hub did not welcome us") };
        info!(
            hub_replica = welcome.hub_replica,
            over = self.way.name(),
            "The hub knows this replica"
        );
        Ok(Open::welcomed(down, up_tx))
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

/// A hub that would say the same again in a moment.
#[derive(Debug, thiserror::Error)]
#[error("{said}")]
struct Decided {
    said: String,
    /// It does not know this cluster, so that nothing of it lives there.
    is_unknown: bool,
}

fn refused(status: &Status) -> anyhow::Error {
    let (code, message) = (status.code(), status.message());
    let is_unknown = is_unknown(code);
    let said = match code {
        Code::Unimplemented => format!(
            "the hub does not know this agent's kind of link (agent {}): update whichever is older; if that is neither, \
             whatever is between them has to let gRPC pass",
            env!("CARGO_PKG_VERSION")
        ),
        _ if is_unknown => format!(
            "the hub said: {message}. If this cluster shall join it again, remove the chart's release and install it with \
             a new join token"
        ),
        code if is_decision(code) => format!("the hub said: {message}"),
        _ => return anyhow!("the hub said: {message}"),
    };
    Decided { said, is_unknown }.into()
}

#[cfg(test)]
mod tests {
    use fairlead_tunnel::connect::Connector;

    use super::*;
    use crate::enrol;

    pub(super) fn link() -> Link {
        Link {
            run: Arc::new(Run::any()),
            identity: enrol::any_replica_key(),
            inventory: watch::channel(Inventory::default()).1,
            originals: watch::channel(Counts::new()).1,
            counted: Counts::new(),
            workloads: Workloads::unknown(),
            observed: watch::channel(Observed::new()).1,
            first_uses: mpsc::channel(1).1,
            further: mpsc::channel(1).1,
            wanted: watch::Sender::new(None),
            asked: mpsc::channel(1).0,
            ways: Ways::to_hub("https://hub.test", Connector::default()).expect("an address"),
            way: LinkWay::default(),
            linked: watch::Sender::new(true),
            stopping: CancellationToken::new(),
            leaving: CancellationToken::new(),
        }
    }

    #[test]
    fn a_hub_that_decided_is_told_from_one_that_is_not_there() {
        let newer = refused(&Status::unimplemented(""));
        assert!(newer.to_string().contains("update whichever is older"), "{newer}");
        let clock = refused(&Status::unauthenticated("the clock of the cluster is 3600 s behind"));
        assert!(clock.to_string().contains("3600 s behind"), "{clock}");
        let often = refused(&Status::resource_exhausted("too many calls: try again in 1 s"));
        assert!([newer, clock, often].iter().all(|error| error.is::<Decided>()));
        let starting = Status::unavailable("the hub cannot reach its database");
        assert!(!refused(&starting).is::<Decided>());
    }

    #[test]
    fn only_a_hub_that_does_not_know_this_cluster_is_believed_to_want_nothing() {
        let is_unknown = |status| {
            let error = refused(&status);
            error.downcast_ref::<Decided>().is_some_and(|decided| decided.is_unknown)
        };
        assert!(is_unknown(Status::not_found("the hub does not know this teamspace key")));
        for other in [
            Status::unauthenticated("the clock of the cluster is 3600 s behind"),
            Status::permission_denied("the teamspace is locked"),
            Status::unavailable("the hub cannot reach its database"),
        ] {
            assert!(!is_unknown(other.clone()), "{other}");
        }
    }

    /// A replica that has just started has not heard yet what is wanted, and may find redirects of before.
    #[tokio::test]
    async fn what_is_forgotten_is_given_back_though_it_was_never_heard_of() {
        let link = link();
        assert!(link.wanted.borrow().is_none());
        link.forget("a test");
        assert_eq!(*link.wanted.borrow(), Some(Arc::new(Wanted::default())));
    }
}
