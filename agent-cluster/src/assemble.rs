//! The only place that knows every part of a running agent, and the order in which they begin and end.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use fairlead_tunnel::connect::{LinkWay, Ways};
use kube::{Client, Config};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, oneshot, watch},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::info;

use crate::{
    apply::leases,
    carriers::{CarriedSessions, Carriers},
    config::{Place, Restore, Run},
    data_plane::DataThreads,
    enrol::{self, Enrolled},
    grants::Grants,
    health::{self, Ready},
    intercept::{
        Intercepts, Wires,
        holds::Holds,
        originals::Counts,
        traffic::{Traffic, falls_quiet},
    },
    janitor,
    link::Link,
    listen::dual_stack,
    outside::{self, Border},
    peers::{PeerState, writer::Peers},
    report::{FirstUses, Observed},
    resolve::Resolver,
    wanted::Wanted,
    watch::{Inventory, WATCH_SECONDS, inventory, pods},
    workload::Workloads,
};

/// Words of the hub that wait to be acted on.
const ASKED_QUEUE: usize = 256;
/// Sessions for which the hub is to be asked for a further carrier. Who finds it full asks again.
const FURTHER_QUEUE: usize = 64;
/// Where no connection has come for so long after an endpoint has left, kube-proxy of no node sends any more.
const PROXIES_FOLLOW: Duration = Duration::from_millis(1500);
const NO_API: &str = "the cluster's API cannot be reached: is this a pod with a service account?";
const API_CONNECT: Duration = Duration::from_secs(5);
/// No answer is awaited for longer, watches included: they say something at least every `WATCH_SECONDS`.
const API_SILENT: Duration = Duration::from_secs(WATCH_SECONDS as u64 + 5);
/// From then on; connections under way may finish. The pod's grace period is 60 s.
const CONNECTIONS_FINISH: Duration = Duration::from_secs(20);

/// Runs the agent until it is told to stop, then takes it out of the cluster's way.
pub(crate) async fn run(run: Run, data_threads: DataThreads) -> anyhow::Result<()> {
    let run = Arc::new(run);
    let client = client().await?;
    let ready = Ready::default();
    health::serve(run.place.health_port, ready.clone()).context("the health port is taken")?;
    let stop = stop_signal()?;
    tokio::pin!(stop);
    let enrolled = tokio::select! {
        enrolled = enrol::enrolled(&client, &run) => Arc::new(enrolled),
        () = &mut stop => {
            // Whoever comes next may have a better join token.
            leases::leave(&client, &run.place.namespace, &run.pod_name).await;
            return Ok(());
        }
    };
    info!(teamspace = enrolled.name, organization = %enrolled.organization, key = %enrolled.authority.thumbprint(),
        "This replica belongs to teamspace {}", enrolled.name);

    let mut parts = Parts::assemble(client, run, &enrolled, data_threads)?;
    tokio::select! {
        synced = parts.inventory.wait_for(|inventory| inventory.synced()) => {
            drop(synced.context("the watches ended")?);
            ready.set(true);
            info!("Everything is seen; ready");
            stop.await;
        }
        () = &mut stop => {}
    }
    ready.set(false);
    parts.end().await;
    Ok(())
}

/// What is left in hand of a running agent: how to see that it is complete, and how to end it.
struct Parts {
    inventory: watch::Receiver<Inventory>,
    stopping: CancellationToken,
    drained: oneshot::Receiver<()>,
    peers_stopping: CancellationToken,
    leaving: CancellationToken,
    /// The connections of intercepts.
    traffic: watch::Receiver<Traffic>,
    consumes: TaskTracker,
}

impl Parts {
    /// Begins every task, each with its ends of the channels between them.
    fn assemble(
        client: Client,
        run: Arc<Run>,
        enrolled: &Arc<Enrolled>,
        data_threads: DataThreads,
    ) -> anyhow::Result<Self> {
        let identity = enrol::replica_key(Arc::clone(enrolled), run.pod_name.clone())?;
        let inventory = inventory(&client, &run.place.scopes(), &run.place.owner());
        let (stopping, peers_stopping) = (CancellationToken::new(), CancellationToken::new());
        let (leaving, consumes) = (CancellationToken::new(), TaskTracker::new());
        let (wanted_tx, wanted_rx) = watch::channel(None::<Arc<Wanted>>);
        let (linked_tx, linked_rx) = watch::channel(false);
        let (state_tx, state_rx) = watch::channel(PeerState::default());
        let (observed_tx, observed_rx) = watch::channel(Observed::new());
        let (originals_tx, originals_rx) = watch::channel(Counts::new());
        let (asked_tx, asked_rx) = mpsc::channel(ASKED_QUEUE);
        let (further_tx, further_rx) = mpsc::channel(FURTHER_QUEUE);
        let (first_uses, first_use_rx) = FirstUses::queue();
        let holds = Holds::default();

        let peers = Peers::start(
            client.clone(),
            Arc::clone(&run),
            pods(&client, &run.place.namespace, &run.place.agent_selector),
            identity.clone(),
            state_rx,
            dual_stack(run.peer_port).context("the peer port is taken")?,
            peers_stopping.clone(),
        );
        let resolver = Resolver::of_this_pod();
        let border = Border {
            inventory: inventory.clone(),
            own: run.pod_ip,
            cluster_domain: resolver.domain().to_owned(),
            lookup: outside::by_this_pod,
        };
        let ways = Ways::to_hub(&run.hub_url, run.connector()?)?;
        let carriers = Carriers {
            identity: identity.clone(),
            organization_certificate: enrolled.organization_certificate.clone(),
            grants: Grants::new(enrolled, wanted_rx.clone()),
            holds: holds.clone(),
            inventory: inventory.clone(),
            first_uses,
            carried: CarriedSessions::default(),
            further: further_tx,
            ways: ways.clone(),
            leaving: leaving.clone(),
            consumes: consumes.clone(),
            resolver,
            border,
            data_threads,
        };
        tokio::spawn(carriers.serve(asked_rx));
        let link = Link {
            run: Arc::clone(&run),
            identity,
            inventory: inventory.clone(),
            originals: originals_rx,
            counted: Counts::new(),
            workloads: Workloads::follow(client.clone(), inventory.clone()),
            observed: observed_rx,
            first_uses: first_use_rx,
            further: further_rx,
            wanted: wanted_tx,
            asked: asked_tx,
            ways,
            way: LinkWay::default(),
            linked: linked_tx,
            stopping: stopping.clone(),
            leaving: leaving.clone(),
        };
        tokio::spawn(link.keep());
        let wires = Wires {
            inventory: inventory.clone(),
            wanted: wanted_rx,
            peers,
            holds,
            state: state_tx,
            observed: observed_tx,
            originals: originals_tx,
            linked: linked_rx,
            stopping: stopping.clone(),
        };
        let (drained_tx, drained) = oneshot::channel();
        let (traffic_tx, traffic) = watch::channel(Traffic::default());
        tokio::spawn(Intercepts::new(client, run, wires, traffic_tx).run(drained_tx));
        Ok(Self { inventory, stopping, drained, peers_stopping, leaving, traffic, consumes })
    }

    /// Endpoints leave, then the Lease and the hub, so that laptops find another replica; then what is still open may
    /// finish.
    async fn end(self) {
        self.stopping.cancel();
        let _task_gone = self.drained.await;
        self.peers_stopping.cancel();
        self.leaving.cancel();
        let finished = async {
            falls_quiet(self.traffic, PROXIES_FOLLOW).await;
            self.consumes.close();
            self.consumes.wait().await;
        };
        let in_time = tokio::time::timeout(CONNECTIONS_FINISH, finished).await.is_ok();
        info!(in_time, "Stopped");
    }
}

pub(crate) async fn janitor(place: Place) -> anyhow::Result<()> {
    let client = client().await?;
    let ready = Ready::default();
    health::serve(place.health_port, ready.clone()).context("the health port is taken")?;
    let stop = stop_signal()?;
    tokio::select! {
        ended = janitor::run(client, place, ready) => ended,
        () = stop => Ok(()),
    }
}

/// The agents are about to be removed with everything else, so they are treated as dead already.
pub(crate) async fn restore(restore: Restore) -> anyhow::Result<()> {
    janitor::restore_from_the_living(&client().await?, &restore.place).await
}

async fn client() -> anyhow::Result<Client> {
    let config = Config::infer().await.context(NO_API)?;
    Client::try_from(within_the_cluster(config)).context(NO_API)
}

fn within_the_cluster(mut config: Config) -> Config {
    // HTTPS_PROXY is for the hub; kube would take it for the API's.
    config.proxy_url = None;
    config.connect_timeout = Some(API_CONNECT);
    config.read_timeout = Some(API_SILENT);
    // Counted from the question, not from when a pooled connection fell idle.
    config.reset_reader_on_write = true;
    config
}

fn stop_signal() -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        info!("Asked to stop");
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clusters_api_is_asked_without_the_hubs_proxy() {
        let mut config = Config::new("https://10.96.0.1".parse().expect("an address"));
        config.proxy_url = "http://proxy.corp:3128".parse().ok();
        assert_eq!(within_the_cluster(config).proxy_url, None);
    }
}
