//! Where redirected connections arrive: one listener per port of an intercepted Service. Each connection goes to the
//! laptop or, when there is none, to an original pod; once a byte has passed it stays where it is.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use fairlead_model::{Port, ServiceRef};
use fairlead_tunnel::{copy, resets};
use socket2::SockRef;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{
    hold::{Hold, Taken},
    originals, probe,
    traffic::Connections,
};
use crate::{
    listen::dual_stack,
    seen::{PodsSeen, PortSeen, ServiceSeen},
};

/// Idle connections to pods are probed after this long, so that a pod that vanished is noticed.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// The pods behind another selector are listed within this time; then there are none.
const PODS_LISTED: Duration = Duration::from_secs(2);

/// What a listener needs to know for the next connection; replaced while it listens.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub(crate) service: Arc<ServiceSeen>,
    pub(crate) port: PortSeen,
    /// The laptop's side, when this port is mapped to one.
    pub(crate) hold: Option<Hold>,
    pub(crate) pods: watch::Receiver<PodsSeen>,
    /// Addresses of all replicas, for telling probes.
    pub(crate) agents: Arc<BTreeSet<IpAddr>>,
}

/// One open port; dropping it closes the port, `ends` also cuts what it carries.
#[derive(Debug)]
pub(crate) struct Listener {
    route: watch::Sender<Arc<Route>>,
    ends: CancellationToken,
}

impl Listener {
    /// Opens `listen` on every address of the pod.
    pub(crate) fn open(
        listen: u16,
        route: Route,
        connections: Connections,
    ) -> std::io::Result<Self> {
        let socket = dual_stack(listen)?;
        let (route_tx, route_rx) = watch::channel(Arc::new(route));
        let ends = CancellationToken::new();
        tokio::spawn(accept(socket, route_rx, connections, ends.clone()));
        Ok(Self { route: route_tx, ends })
    }

    /// Sends the next connections along `route`; those under way stay where they are.
    pub(crate) fn turn(&self, route: Route) {
        self.route.send_replace(Arc::new(route));
    }

    pub(crate) fn give_to_pods(&self) {
        self.route
            .send_modify(|route| *route = Arc::new(Route { hold: None, ..Route::clone(route) }));
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.ends.cancel();
    }
}

async fn accept(
    listener: TcpListener,
    route: watch::Receiver<Arc<Route>>,
    connections: Connections,
    ends: CancellationToken,
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = ends.cancelled() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                let slot = connections.arrived().await;
                let route = Arc::clone(&route.borrow());
                let ends = ends.clone();
                tokio::spawn(async move {
                    tokio::select! {
                        () = serve(stream, peer, &route) => {}
                        () = ends.cancelled() => {
                            let service = &route.service.service;
                            resets::tell(service, "its intercept is over here", &peer);
                        }
                    }
                    drop(slot);
                });
            }
            Err(error) => {
                warn!(%error, "A redirected connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Takes one connection to the laptop, or to a pod when the laptop is not there.
async fn serve(stream: TcpStream, peer: SocketAddr, route: &Route) {
    let probe = probe::is_probe(peer, &route.agents);
    if let Some(taken) = taken_by_laptop(route, probe).await {
        if !probe {
            to_laptop(stream, taken, &route.service.service).await;
        }
        return;
    }
    if !probe {
        to_original(stream, peer.ip().to_canonical(), route).await;
    }
}

async fn taken_by_laptop(route: &Route, probe: bool) -> Option<Taken> {
    let port = Port::new(route.port.port)?;
    route.hold.as_ref()?.open(&route.service.service, port, probe).await
}

/// Cut means reset for the client too, so that it learns at once that there will be no answer.
async fn to_laptop(stream: TcpStream, taken: Taken, service: &ServiceRef) {
    tokio::select! {
        copied = copy::both_ways(taken.stream, stream) => {
            debug!(?copied, "A connection to a laptop ended");
            copied.tell_reset(service);
        }
        () = taken.cut.cancelled() => {
            resets::tell(service, "it was at a laptop", &"which is away, or its session is over");
        }
    }
}

async fn to_original(mut stream: TcpStream, client: IpAddr, route: &Route) {
    let ipv6 = route.service.cluster_ip.is_some_and(|ip| ip.is_ipv6());
    let mut pods = route.pods.clone();
    let known = timeout(PODS_LISTED, pods.wait_for(|pods| pods.synced)).await;
    drop(known);
    let addresses =
        originals::addresses(&pods.borrow(), &route.port, route.service.publish_not_ready, ipv6);
    let addresses = originals::preferred_by(client, addresses);
    let mut pod = match originals::connect(&addresses).await {
        Ok(pod) => pod,
        Err(error) => {
            resets::tell(&route.service.service, "no original pod could be reached", &error);
            let _refused = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
            return;
        }
    };
    for socket in [SockRef::from(&stream), SockRef::from(&pod)] {
        let _best_effort = socket.set_tcp_nodelay(true);
        let keepalive = socket2::TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE);
        let _best_effort = socket.set_tcp_keepalive(&keepalive);
    }
    match tokio::io::copy_bidirectional(&mut stream, &mut pod).await {
        Ok(_) => {}
        Err(error) => {
            debug!(service = %route.service.service, %error, "A connection to a pod broke");
            for socket in [SockRef::from(&stream), SockRef::from(&pod)] {
                let _reset = socket.set_linger(Some(Duration::ZERO));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::{
        made_up::{self, listed},
        seen::Target,
    };

    #[tokio::test]
    async fn a_connection_waits_until_the_pods_are_listed() {
        let bound = async || TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let (pod, door) = (bound().await, bound().await);
        let port = PortSeen {
            name: String::new(),
            port: 80,
            protocol: "TCP".into(),
            target: Target::Number(pod.local_addr().expect("bound").port()),
            app_protocol: None,
        };
        let (pods_tx, pods) = watch::channel(PodsSeen::default());
        let service = Arc::new(made_up::cart(json!({})));
        let route = Route { service, port, hold: None, pods, agents: Arc::default() };

        let mut client = TcpStream::connect(door.local_addr().expect("bound")).await.expect("open");
        let (stream, peer) = door.accept().await.expect("it came");
        let serving = tokio::spawn(async move { to_original(stream, peer.ip(), &route).await });
        tokio::task::yield_now().await;
        assert!(!serving.is_finished(), "who is behind the Service is not known yet");
        pods_tx.send_replace(listed([made_up::pod("a", "127.0.0.1")]));
        let (mut reached, _) = pod.accept().await.expect("the pod is reached");
        reached.write_all(b"pod").await.expect("it listens");
        drop(reached);
        let mut heard = String::new();
        client.read_to_string(&mut heard).await.expect("answered");
        assert_eq!(heard, "pod");
    }
}
