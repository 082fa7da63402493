//! How a link goes once the hub has welcomed us: heartbeats both ways, our catalogue and what we see go up, what should be
//! comes down. It only carries words; what they ask for happens elsewhere.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, anyhow, bail};
use fairlead_model::timers;
use fairlead_wire::link::v1::{
    ClusterDown, ClusterUp, FurtherCarrier, Heartbeat, SessionKind, cluster_down::Message as Down,
    cluster_up::Message as Up,
};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};
use tokio_stream::{Stream, StreamExt};
use tonic::Status;
use tracing::info;

use super::{Asked, Link, refused};
use crate::{
    catalogue::{Catalogue, catalogue, count, news},
    report::{Observed, first_use_to_wire, observed_to_wire},
    wanted::Wanted,
};

/// Changes of the catalogue are gathered for this long.
const GATHER: Duration = Duration::from_millis(200);
/// After a start the hub remembers better how many pods stand behind an intercepted Service: for so long the catalogue
/// waits until they are counted. Longer only where nobody counts them, as where another installation has the Service.
const COUNTING: Duration = Duration::from_secs(5);

/// What the hub says, as it arrives.
pub(super) trait Words: Stream<Item = Result<ClusterDown, Status>> + Unpin {}

impl<S: Stream<Item = Result<ClusterDown, Status>> + Unpin> Words for S {}

/// When a hub that says nothing more from now on is given up.
pub(super) fn soon() -> Instant {
    Instant::now() + timers::LINK_DEAD
}

pub(super) async fn hear(down: &mut impl Words, until: Instant) -> anyhow::Result<Down> {
    loop {
        let message = timeout_at(until, down.next()).await.context("the hub is silent")?;
        let message = message.context("the hub closed the link")?;
        // A newer hub may say what this version does not know; its heartbeats are known, so that this ends.
        if let Some(message) = message.map_err(|status| refused(&status))?.message {
            return Ok(message);
        }
    }
}

/// A link that was welcomed, and what the hub has been told on it.
pub(super) struct Open<S> {
    down: S,
    up_tx: mpsc::Sender<ClusterUp>,
    begun: Instant,
    told: Option<Catalogue>,
    said: Observed,
}

impl<S: Words> Open<S> {
    pub(super) fn welcomed(down: S, up_tx: mpsc::Sender<ClusterUp>) -> Self {
        Self { down, up_tx, begun: Instant::now(), told: None, said: Observed::new() }
    }

    /// Serves the link until it ends; the error says why.
    pub(super) async fn serve(&mut self, link: &mut Link) -> anyhow::Error {
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
    use fairlead_wire::link::v1::CarrierOffer;
    use tokio::sync::watch;
    use tokio_util::task::AbortOnDropHandle;

    use super::{
        super::{UP_QUEUE, tests::link},
        *,
    };
    use crate::{intercept::originals::Counts, made_up, names, watch::Inventory};

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
        let mut open = Open::welcomed(down, up_tx);
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
                let mut open = Open::welcomed(tokio_stream::pending(), up_tx);
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
