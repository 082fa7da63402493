//! The link to the hub: dialled from here, begun with a challenge, kept alive by heartbeats, begun again when lost.
//! It only carries words; what they ask for happens elsewhere.

use std::{future::pending, sync::Arc, time::Duration};

use anyhow::{Context, anyhow, bail};
use fairlead_model::{SessionId, timers};
use fairlead_tunnel::{
    Backoff,
    connect::{Ways, dial_hub, is_decision, is_unknown},
};
use fairlead_wire::{
    challenge,
    link::v1::{
        CarrierOffer, ClusterDown, ClusterUp, FurtherCarrier, Heartbeat, Hello, SessionKind,
        cluster_down::Message as Down, cluster_links_client::ClusterLinksClient,
        cluster_up::Message as Up,
    },
};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, timeout, timeout_at},
};
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, Streaming};
use tracing::{info, warn};

use crate::{
    catalogue::{Catalogue, catalogue, count, news},
    config::Run,
    enrol::{ReplicaKey, advise},
    intercept::originals::Counts,
    report::{FirstUse, Observed, first_use_to_wire, observed_to_wire},
    wanted::Wanted,
    watch::Inventory,
    workload::Workloads,
};

/// Messages under way to the hub. A full queue means that the hub does not read: the link begins anew.
const UP_QUEUE: usize = 256;
/// Changes of the catalogue are gathered for this long.
const GATHER: Duration = Duration::from_millis(200);
/// After a start the hub remembers better how many pods stand behind an intercepted Service: for so long the catalogue
/// waits until they are counted. Longer only where nobody counts them, as where another installation has the Service.
const COUNTING: Duration = Duration::from_secs(5);

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

    async fn open(&self) -> anyhow::Result<Open<Streaming<ClusterDown>>> {
        let hub = dial_hub(&self.run.hub_url, &self.run.connector()?)
            .await
            .map_err(|e| anyhow!(advise(&e, &self.run)))?;
        let (up_tx, up_rx) = mpsc::channel(UP_QUEUE);
        let mut links = ClusterLinksClient::new(hub.channel());
        let reply = timeout(timers::LINK_DEAD, links.open(ReceiverStream::new(up_rx))).await;
        let reply = reply.context("the hub did not answer in time")?;
        let mut down = reply.map_err(|status| refused(&status))?.into_inner();
        let Down::Challenge(challenge) = hear(&mut down, soon()).await? else {
            bail!("the hub began without a challenge")
        };
        let hello = self.hello(&challenge.nonce, hub.host());
        up_tx.send(ClusterUp { message: Some(Up::Hello(hello)) }).await?;
        let Down::Welcome(welcome) = hear(&mut down, soon()).await? else {
            bail!("the hub did not welcome us")
        };
        info!(hub_replica = welcome.hub_replica, "The hub knows this replica");
        Ok(Open { down, up_tx, begun: Instant::now(), told: None, said: Observed::new() })
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
    loop {
        let message = timeout_at(until, down.next()).await.context("the hub is silent")?;
        let message = message.context("the hub closed the link")?;
        // A newer hub may say what this version does not know; its heartbeats are known, so that this ends.
        if let Some(message) = message.map_err(|status| refused(&status))?.message {
            return Ok(message);
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

/// A link that was welcomed, and what the hub has been told on it.
struct Open<S> {
    down: S,
    up_tx: mpsc::Sender<ClusterUp>,
    begun: Instant,
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
        // Whoever asked while there was no link has asked too early, and asks again.
        while link.further.try_recv().is_ok() {}
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
                    let told = self.tell_catalogue(link);
                    stale = matches!(told, Ok(Told::Later));
                    told.map(|_| ())
                }
                Ok(()) = link.inventory.changed() => { stale = true; Ok(()) }
                Ok(()) = link.originals.changed() => { stale = true; Ok(()) }
                Ok(()) = link.workloads.news.changed() => { stale = true; Ok(()) }
                Ok(()) = link.observed.changed() => self.tell_observed(link),
                Some(session) = link.further.recv() => {
                    self.say(Up::FurtherCarrier(FurtherCarrier { session_id: session.to_string() }))
                }
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

    fn tell_catalogue(&mut self, link: &mut Link) -> anyhow::Result<Told> {
        let inventory = link.inventory.borrow_and_update();
        if !inventory.synced() {
            return Ok(Told::Later);
        }
        let counted = count(&inventory, &link.originals.borrow_and_update(), &link.counted);
        if !counted.complete && self.told.is_none() && self.begun.elapsed() < COUNTING {
            return Ok(Told::Later);
        }
        let now = catalogue(&inventory, &counted.ready, &link.workloads, link.run.pod_ip.is_ipv6());
        drop(inventory);
        for message in news(self.told.as_ref(), &now) {
            self.say(Up::Catalogue(message))?;
        }
        self.told = Some(now);
        link.counted = counted.ready;
        Ok(Told::All)
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

/// Whether the catalogue was told, or has to be looked at again in a moment.
enum Told {
    All,
    Later,
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
        // A replica that stops takes no new intercept. A laptop that consumes would wait in vain for its other half.
        Down::Carrier(offer)
            if link.stopping.is_cancelled() && offer.kind() == SessionKind::Intercept =>
        {
            Ok(())
        }
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
    use fairlead_tunnel::connect::Connector;
    use tokio_util::task::AbortOnDropHandle;

    use super::*;
    use crate::{enrol, made_up, names};

    fn link() -> Link {
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
            linked: watch::Sender::new(true),
            stopping: CancellationToken::new(),
            leaving: CancellationToken::new(),
        }
    }

    #[tokio::test]
    async fn a_replica_that_stops_goes_on_taking_laptops_that_consume_and_no_intercept() {
        let (asked_tx, mut asked_rx) = mpsc::channel(1);
        let link = Link { asked: asked_tx, ..link() };
        link.stopping.cancel();
        for (kind, is_taken) in [(SessionKind::Intercept, false), (SessionKind::Consume, true)] {
            let offer = CarrierOffer { kind: kind.into(), ..CarrierOffer::default() };
            take(Down::Carrier(offer), &link).await.expect("understood");
            assert_eq!(asked_rx.try_recv().is_ok(), is_taken, "{kind:?}");
        }
    }

    /// The hub's half is gone without a word, as behind a cut cable; our own heartbeats go on being written.
    #[tokio::test(start_paused = true)]
    async fn a_hub_that_says_nothing_is_given_up_however_much_it_is_told() {
        let (up_tx, mut up_rx) = mpsc::channel(UP_QUEUE);
        let reading = tokio::spawn(async move { while up_rx.recv().await.is_some() {} });
        let down = tokio_stream::pending();
        let begun = Instant::now();
        let mut open = Open { down, up_tx, begun, told: None, said: Observed::new() };
        let ended = open.serve(&mut link()).await;
        assert!(ended.to_string().contains("silent"), "{ended:#}");
        assert_eq!(begun.elapsed().as_secs(), timers::LINK_DEAD.as_secs());
        reading.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_newer_hub_says_that_nobody_knows_here_costs_nothing() {
        let unknown = ClusterDown { message: None };
        let known = ClusterDown { message: Some(Down::Heartbeat(Heartbeat {})) };
        let mut down = tokio_stream::iter([Ok(unknown), Ok(known)]);
        let heard = hear(&mut down, soon()).await.expect("the link stands");
        assert!(matches!(heard, Down::Heartbeat(_)), "{heard:?}");
    }

    #[test]
    fn a_hub_that_decided_is_told_from_one_that_is_not_there() {
        let newer = refused(&Status::unimplemented(""));
        assert!(newer.to_string().contains("update whichever is older"), "{newer}");
        let clock = refused(&Status::unauthenticated("the clock of the cluster is 3600 s behind"));
        assert!(clock.to_string().contains("3600 s behind"), "{clock}");
        assert!(newer.is::<Decided>() && clock.is::<Decided>());
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

    /// Its key stands, so the cluster publishes nothing for it.
    fn intercepted_cart() -> Inventory {
        let selector = serde_json::json!({names::SENTINEL: "of whatever session"});
        let cart = made_up::cart(serde_json::json!({"selector": selector}));
        Inventory::of(vec![cart], Vec::new())
    }

    /// A link on which the hub says nothing, and what it is told of the cart.
    struct Listening {
        up_rx: mpsc::Receiver<ClusterUp>,
        _serving: AbortOnDropHandle<()>,
    }

    impl Listening {
        fn to_a_link_with(originals: watch::Receiver<Counts>) -> Self {
            let (up_tx, up_rx) = mpsc::channel(UP_QUEUE);
            let serving = tokio::spawn(async move {
                let (down, begun) = (tokio_stream::pending(), Instant::now());
                let mut open = Open { down, up_tx, begun, told: None, said: Observed::new() };
                let inventory = watch::channel(intercepted_cart()).1;
                open.serve(&mut Link { inventory, originals, ..link() }).await;
            });
            Self { up_rx, _serving: AbortOnDropHandle::new(serving) }
        }

        /// Returns how many pods are ready, and after how long that was said.
        async fn is_told(&mut self) -> (u32, Duration) {
            let begun = Instant::now();
            loop {
                let said = self.up_rx.recv().await.and_then(|said| said.message);
                if let Up::Catalogue(catalogue) = said.expect("it serves") {
                    return (catalogue.changed[0].ready_endpoints, begun.elapsed());
                }
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_catalogue_waits_until_the_pods_of_an_intercepted_service_are_counted() {
        let (originals_tx, originals_rx) = watch::channel(Counts::new());
        let mut listening = Listening::to_a_link_with(originals_rx);
        tokio::time::sleep(COUNTING / 2).await;
        for ready in [2, 1] {
            let counts = [("shop/cart".parse().expect("valid"), ready)];
            originals_tx.send_replace(counts.into());
            let (told, after) = listening.is_told().await;
            assert_eq!(told as usize, ready);
            assert!(after < Duration::from_secs(1), "{after:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_catalogue_is_told_even_if_nobody_counts() {
        let (_originals_tx, originals_rx) = watch::channel(Counts::new());
        let (ready, after) = Listening::to_a_link_with(originals_rx).is_told().await;
        assert_eq!(ready, 0);
        assert!(after >= COUNTING, "{after:?}");
    }
}
