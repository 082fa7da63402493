//! One stream from its destination's answer to its last byte. Whether it may be carried was decided before
//! (`streams.rs`); how datagrams flow on one is `datagrams.rs`.

use std::{
    io,
    time::{Duration, Instant},
};

use fairlead_model::{Callee, HostName, Port, Protocol};
use fairlead_tunnel::{Stream, StreamOffered, copy, resets};
use fairlead_wire::open::{OpenRequest, Refusal};
use tokio::{net::TcpStream, time::timeout};
use tracing::debug;

use super::Destination;
use crate::{datagrams, outside::Border};

pub(crate) const CONNECT: Duration = Duration::from_secs(5);

pub(super) async fn carried(offer: StreamOffered, destination: Destination, request: OpenRequest) {
    match request.port.protocol {
        Protocol::Tcp => carry(offer, destination, &request.callee).await,
        Protocol::Udp => datagrams::flow(offer, destination, &request.callee).await,
    }
}

/// Carries a stream out of the cluster, to wherever its name leads by now.
pub(super) async fn carry_outside(
    offer: StreamOffered,
    host: HostName,
    port: Port,
    border: Border,
) {
    match border.addresses(&host, port).await {
        Ok(addresses) => carry(offer, Destination::AnyOf(addresses), &host.into()).await,
        Err((refusal, reason)) => refuse(offer, refusal, reason),
    }
}

async fn carry(offer: StreamOffered, destination: Destination, callee: &Callee) {
    // In a box of its own, which goes when it is done: most connections are idle most of the time.
    let Some((stream, pod)) = Box::pin(connect(offer, destination, callee)).await else { return };
    let copied = copy::both_ways(stream, pod).await;
    debug!(%callee, ?copied, "A consumed connection ended");
    copied.tell_abort_of(callee);
}

/// Connects to whoever is called and agrees to the stream, or refuses it.
async fn connect(
    offer: StreamOffered,
    destination: Destination,
    callee: &Callee,
) -> Option<(Stream, TcpStream)> {
    let begun = Instant::now();
    let reason = match timeout(CONNECT, destination.dial()).await {
        // It opens early, and hears that we agree when it hears the pod.
        Ok(Ok(pod)) if !offer.request().probe => {
            return Some((offer.accept_with_the_first_bytes(), pod));
        }
        Ok(Ok(pod)) => {
            let agreed = offer.accept_after(begun.elapsed()).inspect_err(|error| {
                debug!(%callee, %error, "The laptop gave up while the Service was dialled");
            });
            return agreed.ok().map(|stream| (stream, pod));
        }
        Ok(Err(error)) => why(&error, callee),
        Err(_) => format!(
            "{callee} does not answer within {} s: a NetworkPolicy may keep the agent out, or {}",
            CONNECT.as_secs(),
            match callee {
                Callee::InCluster { .. } => "its pods hang",
                Callee::Outside { .. } => "a firewall does",
            }
        ),
    };
    refuse(offer, Refusal::Unreachable, reason);
    None
}

/// Refuses a stream and has the log say why: the application at the laptop only sees a reset. Whoever probes shows the
/// refusal by itself.
pub(crate) fn refuse(offer: StreamOffered, refusal: Refusal, reason: impl Into<String>) {
    let (request, reason) = (offer.request(), reason.into());
    if !request.probe {
        let whom = format_args!("{}:{}", request.callee, request.port);
        let detail = format_args!("{reason} (session {})", request.session);
        resets::tell(&whom, in_words(refusal), &detail);
    }
    offer.refuse(refusal, reason);
}

const fn in_words(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::NotAllowed => "its session may not have it",
        Refusal::NotFound => "it is not there",
        Refusal::Unreachable => "it does not answer",
        Refusal::Unavailable => "not at this moment",
    }
}

pub(crate) fn why(error: &io::Error, callee: &Callee) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused if matches!(callee, Callee::Outside { .. }) => {
            format!("{callee} refuses the connection: nothing listens on this port of it")
        }
        io::ErrorKind::ConnectionRefused => {
            format!(
                "{callee} refuses the connection: it has no ready pod, or none that listens on this port"
            )
        }
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            format!("{callee} cannot be reached from the agent: a NetworkPolicy may keep it out")
        }
        _ => format!("{callee} cannot be reached: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use fairlead_model::{ServicePort, ServiceRef};
    use fairlead_tunnel::datagrams::{Queue, carry as carry_datagrams};
    use fairlead_wire::grant::{Grant, GrantedService};
    use serde_json::json;
    use tokio::{net::UdpSocket, sync::mpsc};

    use super::{
        super::world::{world, world_with},
        *,
    };
    use crate::made_up;

    #[tokio::test]
    async fn only_a_probe_hears_how_long_the_agents_own_connection_took() {
        let world = world().await;
        world.shows(&world.grant).await.expect("accepted");
        for probe in [true, false] {
            let Grant { session, .. } = world.grant;
            let service = "shop/cart".parse().expect("valid");
            let wish = OpenRequest { probe, ..OpenRequest::tcp(session, service, world.port) };
            let stream = world.opener.open(&wish).await.expect("opened");
            assert_eq!(stream.connected_in().is_some(), probe);
        }
    }

    #[tokio::test]
    async fn datagrams_within_the_grant_reach_their_service_and_its_answers_come_back() {
        let echo = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
        let port = Port::new(echo.local_addr().expect("bound").port()).expect("a port");
        let world = world_with(&[made_up::service(
            "cart",
            json!({"clusterIP": "127.0.0.1", "ports": [{"port": port.get(), "protocol": "UDP"}]}),
        )])
        .await;
        tokio::spawn(async move {
            let mut buffer = [0; 100];
            while let Ok((length, from)) = echo.recv_from(&mut buffer).await {
                echo.send_to(&buffer[..length], from).await.expect("sent");
            }
        });
        let service: ServiceRef = "shop/cart".parse().expect("valid");
        let tcp = OpenRequest::tcp(world.grant.session, service.clone(), port);
        let udp = OpenRequest { port: ServicePort::udp(port), ..tcp };
        world.shows(&world.grant).await.expect("a good grant");
        let refused = world.opener.open(&udp).await.expect_err("its grant says TCP");
        assert!(refused.to_string().contains("does not cover"), "{refused}");

        let granted = GrantedService { service, ports: vec![udp.port], pods: Vec::new() };
        let grant = Grant { services: vec![granted], ..world.grant.clone() };
        world.shows(&grant).await.expect("a good grant");
        let stream = world.opener.open(&udp).await.expect("covered");
        let (queue, (answer_tx, mut answer_rx)) = (Queue::default(), mpsc::unbounded_channel());
        queue.push("hello".into());
        let deliver = |datagram: &[u8]| answer_tx.send(datagram.to_vec()).map_err(io::Error::other);
        let answer = tokio::select! {
            flowed = carry_datagrams(stream, &queue, deliver, Duration::from_secs(60)) => panic!("{flowed:?}"),
            answer = answer_rx.recv() => answer,
        };
        assert_eq!(answer.as_deref(), Some(b"hello".as_slice()));
    }

    #[tokio::test]
    async fn a_flow_to_a_port_at_which_nobody_listens_ends() {
        let gone = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
        let port = Port::new(gone.local_addr().expect("bound").port()).expect("a port");
        drop(gone);
        let spec =
            json!({"clusterIP": "127.0.0.1", "ports": [{"port": port.get(), "protocol": "UDP"}]});
        let world = world_with(&[made_up::service("cart", spec)]).await;
        let service: ServiceRef = "shop/cart".parse().expect("valid");
        let tcp = OpenRequest::tcp(world.grant.session, service.clone(), port);
        let udp = OpenRequest { port: ServicePort::udp(port), ..tcp };
        let granted = GrantedService { service, ports: vec![udp.port], pods: Vec::new() };
        let grant = Grant { services: vec![granted], ..world.grant.clone() };
        world.shows(&grant).await.expect("a good grant");
        let stream = world.opener.open(&udp).await.expect("nobody knows yet");
        let queue = Queue::default();
        queue.push("hello?".into());
        let hour = Duration::from_secs(3600);
        let flowed =
            timeout(Duration::from_secs(10), carry_datagrams(stream, &queue, |_| Ok(()), hour));
        assert!(flowed.await.expect("it ends").broken.is_some());
    }
}
