//! Consumes: each stream that a laptop opens is checked against its grant and connected to the Service it names,
//! through the Service's own address, so that the cluster balances as it always does; a headless one by its name. What is
//! outside the cluster is `outside.rs`.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use fairlead_model::{
    Callee, HostName, PodName, Port, Protocol, ServicePort, ServiceRef, SessionId, Thumbprint,
};
use fairlead_tunnel::{Acceptor, GrantPresented, Incoming, Questioned, StreamOffered, copy};
use fairlead_wire::open::{OpenRequest, Refusal};
use tokio::{net::TcpStream, sync::watch, task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{
    datagrams,
    grants::Grants,
    held::Held,
    outside::Border,
    report::{FirstUse, FirstUses},
    resolve::Resolver,
    seen::Published,
    watch::Inventory,
};

pub(crate) const CONNECT: Duration = Duration::from_secs(5);
/// Grants that are on their way on one carrier; a laptop shows one, and a newer one five minutes later.
const GRANTS_ARRIVING_MAX: usize = 4;

/// What a session has used already, on whichever of its carriers: each service is reported once.
#[derive(Debug, Default)]
pub(crate) struct Used(Mutex<BTreeSet<(Callee, ServicePort)>>);

impl Used {
    /// Says whether this is the first use.
    fn begins(&self, callee: &Callee, port: ServicePort) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert((callee.clone(), port))
    }
}

/// One carrier of one consume session, from its first grant to its end.
pub(crate) struct Consume {
    pub(crate) session: SessionId,
    pub(crate) device: Thumbprint,
    pub(crate) grants: Grants,
    pub(crate) inventory: watch::Receiver<Inventory>,
    pub(crate) first_uses: FirstUses,
    pub(crate) used: Arc<Used>,
    /// From then on this replica takes no more streams.
    pub(crate) leaving: CancellationToken,
    pub(crate) resolver: Resolver,
    pub(crate) border: Border,
}

impl Consume {
    /// Serves the carrier until it ends, its session is over, or its grant has run out.
    pub(crate) async fn serve(self, mut acceptor: Acceptor, ends: &CancellationToken) {
        let mut grant = None::<Held>;
        let streams = ends.child_token();
        let handle = acceptor.handle().clone();
        // A grant arrives piece by piece; meanwhile streams go on, and the carrier may be cut.
        let mut arriving = JoinSet::new();
        let mut is_leaving = false;
        loop {
            let incoming = tokio::select! {
                incoming = acceptor.next() => incoming,
                Some(arrived) = arriving.join_next() => {
                    let arrived = arrived.ok().flatten();
                    grant = arrived.and_then(|shown| self.take_grant(shown)).or(grant);
                    continue;
                }
                () = self.grants.over(self.session, &self.device) => {
                    info!(session = %self.session, "A consume is over: its carrier is closed");
                    None
                }
                () = run_out(grant.as_ref()) => {
                    info!(session = %self.session, "A grant ran out without a newer one: its carrier is closed");
                    None
                }
                () = ends.cancelled() => None,
                () = self.leaving.cancelled(), if !is_leaving => {
                    // Ends when what is open has ended.
                    handle.drain();
                    is_leaving = true;
                    continue;
                }
            };
            match incoming {
                Some(Incoming::Grant(shown)) if arriving.len() < GRANTS_ARRIVING_MAX => {
                    arriving.spawn(read(shown));
                }
                Some(Incoming::Grant(shown)) => shown.refuse_for_now("too many grants at once"),
                Some(Incoming::Open(offer)) => {
                    self.open(offer, grant.as_ref(), streams.clone());
                }
                Some(Incoming::Resolve(asked)) => self.resolve(asked, grant.as_ref()),
                None => break,
            }
        }
        streams.cancel();
        handle.close();
    }

    fn take_grant(&self, (jwt, shown): (String, GrantPresented)) -> Option<Held> {
        match self.grants.check(&jwt, self.session, &self.device) {
            Ok(grant) => {
                shown.accept();
                Some(Held::shown_now(grant))
            }
            Err(error) => {
                warn!(session = %self.session, "A grant was refused: {error}");
                match error.is_of_time() {
                    true => shown.refuse_for_now(error.to_string()),
                    false => shown.refuse(error.to_string()),
                }
                None
            }
        }
    }

    /// Lets the cluster's DNS be asked about what the grant covers.
    fn resolve(&self, asked: Questioned, grant: Option<&Held>) {
        let question = asked.request();
        let services = grant.and_then(Held::live).map(|grant| &grant.services[..]);
        let mut covered = services.unwrap_or_default().iter().map(|granted| &granted.service);
        if question.session != self.session || !covered.any(|it| it == question.name.service()) {
            let reason = format!("the grant does not cover {}", question.name);
            return asked.refuse(Refusal::NotAllowed, reason);
        }
        self.resolver.answer(asked);
    }

    /// Decides about one stream and carries it in a task of its own.
    fn open(&self, offer: StreamOffered, grant: Option<&Held>, ends: CancellationToken) {
        let request = offer.request().clone();
        let Some(grant) = grant.and_then(Held::live) else {
            return offer.refuse(Refusal::NotAllowed, "no grant was shown on this carrier");
        };
        // A pod is covered by its Service, whoever else has a pod of that name: it is looked for among the Service's.
        if request.session != self.session || !grant.covers(&request.callee, request.port) {
            let reason = format!("the grant does not cover {}:{}", request.callee, request.port);
            return offer.refuse(Refusal::NotAllowed, reason);
        }
        match &request.callee {
            Callee::Outside { host } => {
                self.take_note(&request);
                let (host, port) = (host.clone(), request.port.port);
                spawn_until(ends, carry_outside(offer, host, port, self.border.clone()));
            }
            Callee::InCluster { service, pod } => {
                let inventory = self.inventory.borrow();
                match destination_of(&inventory, service, pod.as_ref(), request.port) {
                    Ok(destination) => {
                        self.take_note(&request);
                        spawn_until(ends, carried(offer, destination, request));
                    }
                    Err((refusal, reason)) => offer.refuse(refusal, reason),
                }
            }
        }
    }

    /// Reports a first use. A probe is none: nobody asked for the service.
    fn take_note(&self, request: &OpenRequest) {
        let callee = match request.callee.service() {
            Some(service) => service.clone().into(),
            None => request.callee.clone(),
        };
        if !request.probe && self.used.begins(&callee, request.port) {
            let (session, port) = (self.session, request.port);
            self.first_uses.tell(FirstUse { session, callee, port });
        }
    }
}

fn spawn_until(ends: CancellationToken, carried: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(async move {
        tokio::select! {
            () = carried => {}
            () = ends.cancelled() => {}
        }
    });
}

async fn carried(offer: StreamOffered, destination: Destination, request: OpenRequest) {
    match request.port.protocol {
        Protocol::Tcp => carry(offer, destination, &request.callee).await,
        Protocol::Udp => datagrams::flow(offer, destination, &request.callee).await,
    }
}

/// Carries a stream out of the cluster, to wherever its name leads by now.
async fn carry_outside(offer: StreamOffered, host: HostName, port: Port, border: Border) {
    match border.addresses(&host, port).await {
        Ok(addresses) => carry(offer, Destination::AnyOf(addresses), &host.into()).await,
        Err((refusal, reason)) => offer.refuse(refusal, reason),
    }
}

async fn read(mut shown: GrantPresented) -> Option<(String, GrantPresented)> {
    match shown.jwt().await {
        Ok(jwt) => Some((jwt, shown)),
        Err(error) => {
            shown.refuse(format!("the grant could not be read: {error}"));
            None
        }
    }
}

/// Waits until `grant` has run out; for ever while there is none.
async fn run_out(grant: Option<&Held>) {
    match grant {
        Some(grant) => grant.runs_out().await,
        None => std::future::pending().await,
    }
}

/// Where a Service is dialled: at its own address, and a headless one where its name leads, like everybody else in the
/// cluster does. One pod is dialled where its endpoint is: the cluster's DNS says the same, and later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Destination {
    Address(SocketAddr),
    Name(String, u16),
    /// Of a host outside the cluster.
    AnyOf(Vec<SocketAddr>),
}

impl Destination {
    async fn dial(self) -> io::Result<TcpStream> {
        match self {
            Self::Address(address) => TcpStream::connect(address).await,
            Self::Name(name, port) => TcpStream::connect((name, port)).await,
            Self::AnyOf(addresses) => TcpStream::connect(&addresses[..]).await,
        }
    }
}

fn destination_of(
    inventory: &Inventory,
    service: &ServiceRef,
    pod: Option<&PodName>,
    port: ServicePort,
) -> Result<Destination, (Refusal, String)> {
    let number = port.port.get();
    let Some(seen) = inventory.service(service) else {
        return Err((Refusal::NotFound, format!("{service} does not exist in this cluster")));
    };
    if let Some(pod) = pod {
        let ip = address_of(inventory, service, pod)?;
        return Ok(Destination::Address(SocketAddr::new(ip, number)));
    }
    // Nobody answers a connection of UDP, so this is all that can be known of it.
    let is_udp = port.protocol == Protocol::Udp;
    if is_udp && seen.sentinel().is_none() && inventory.published(service) == Published::default() {
        return Err((Refusal::Unreachable, format!("{service} has no ready pod")));
    }
    let protocol = port.protocol.to_string();
    let has_port = seen.ports.iter().any(|p| p.port == number && p.protocol == protocol);
    match (seen.cluster_ip, seen.kind) {
        // Its pods may listen wherever they declare; the grant says where.
        (None, "Headless") => {
            let name = format!("{}.{}.svc", service.name, service.namespace);
            Ok(Destination::Name(name, number))
        }
        _ if !has_port => {
            Err((Refusal::NotFound, format!("{service} has no {protocol} port {}", port.port)))
        }
        (Some(ip), _) => Ok(Destination::Address(SocketAddr::new(ip, number))),
        // An ExternalName leads out of the cluster, which nobody was allowed.
        (None, kind) => Err((
            Refusal::Unreachable,
            format!("{service} is {kind} and has no address of its own"),
        )),
    }
}

fn address_of(
    inventory: &Inventory,
    service: &ServiceRef,
    name: &PodName,
) -> Result<IpAddr, (Refusal, String)> {
    match inventory.pod(service, name) {
        None => Err((Refusal::NotFound, format!("{service} has no pod {name} at this moment"))),
        Some(pod) if !pod.ready => {
            Err((Refusal::Unreachable, format!("pod {name} of {service} is not ready")))
        }
        Some(pod) => Ok(pod.ip),
    }
}

async fn carry(offer: StreamOffered, destination: Destination, callee: &Callee) {
    let begun = Instant::now();
    let pod = match timeout(CONNECT, destination.dial()).await {
        Ok(Ok(pod)) => pod,
        Ok(Err(error)) => return offer.refuse(Refusal::Unreachable, why(&error, callee)),
        Err(_) => {
            let reason = format!(
                "{callee} does not answer within {} s: a NetworkPolicy may keep the agent out, or {}",
                CONNECT.as_secs(),
                match callee {
                    Callee::InCluster { .. } => "its pods hang",
                    Callee::Outside { .. } => "a firewall does",
                }
            );
            return offer.refuse(Refusal::Unreachable, reason);
        }
    };
    let _best_effort = pod.set_nodelay(true);
    match offer.accept_after(begun.elapsed()) {
        Ok(stream) => {
            let copied = copy::both_ways(stream, pod).await;
            debug!(%callee, ?copied, "A consumed connection ended");
        }
        Err(error) => debug!(%callee, %error, "The laptop gave up while the Service was dialled"),
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
    use std::{net::Ipv4Addr, time::SystemTime};

    use fairlead_model::{GrantId, OrgId, SessionKind, TeamspaceId, UserId};
    use fairlead_tunnel::datagrams::{Queue, carry as carry_datagrams};
    use fairlead_tunnel::{OpenFailed, Opener};
    use fairlead_wire::{
        authority::TeamspaceAuthority,
        grant::{Grant, GrantSigner, GrantedService},
        key::Key,
        resolve::ResolveRequest,
    };
    use rustls_pki_types::CertificateDer;
    use serde_json::json;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, UdpSocket},
        sync::mpsc,
    };

    use super::*;
    use crate::{
        enrol::Enrolled,
        made_up, names,
        pair::{Met, Pair},
        seen::ServiceSeen,
        wanted::Wanted,
    };

    /// A laptop at one end of a carrier, an agent with two Services at the other.
    struct World {
        opener: Opener,
        signer: GrantSigner,
        /// For `shop/cart` at its one port.
        grant: Grant,
        port: Port,
        wanted: watch::Sender<Option<Arc<Wanted>>>,
        leaving: CancellationToken,
    }

    async fn world() -> World {
        world_with(&[]).await
    }

    /// With these Services, if they are named, instead of the two; each has one ready pod.
    async fn world_with(instead: &[ServiceSeen]) -> World {
        let pair = Pair::new();
        let (session, device) = (SessionId::generate(), pair.device);
        let (grant_key, teamspace) = (Key::generate().unwrap(), TeamspaceId::generate());
        let enrolled = Enrolled {
            authority: TeamspaceAuthority::create(Key::generate().unwrap(), SystemTime::now())
                .unwrap(),
            organization: OrgId::generate(),
            teamspace,
            name: "staging".to_owned(),
            organization_certificate: CertificateDer::from(vec![1]),
            grant_key: grant_key.public(),
        };
        let wanted = Wanted { consumes: [(session, device)].into(), ..Wanted::default() };
        let (wanted_tx, wanted_rx) = watch::channel(Some(Arc::new(wanted)));
        let leaving = CancellationToken::new();
        let port = answering_port().await;
        let services = match instead {
            [] => vec![service("cart", &[port.get(), 1]), service("payment", &[port.get()])],
            _ => instead.to_vec(),
        };
        let slice = made_up::slice(names::MANAGED_BY_CLUSTER, "", &["127.0.0.1"]);
        let slices = vec![made_up::slice_seen(slice, "nobody")];
        let inventory = watch::channel(Inventory::of(services, slices)).1;
        let consume = Consume {
            session,
            device,
            grants: Grants::new(&enrolled, wanted_rx),
            border: Border {
                inventory: inventory.clone(),
                own: Ipv4Addr::LOCALHOST.into(),
                cluster_domain: "cluster.local".to_owned(),
                lookup: |_| Box::pin(async { Ok(vec![Ipv4Addr::LOCALHOST.into()]) }),
            },
            inventory,
            first_uses: FirstUses::queue().0,
            used: Arc::default(),
            leaving: leaving.clone(),
            resolver: Resolver::at(dns_server().await),
        };
        let now = SystemTime::now();
        let grant = Grant {
            id: GrantId::generate(),
            session,
            teamspace,
            organization: enrolled.organization,
            user: UserId::generate(),
            device,
            action: SessionKind::Consume,
            services: vec![GrantedService {
                service: "shop/cart".parse().expect("valid"),
                ports: vec![ServicePort::tcp(port)],
                pods: Vec::new(),
            }],
            hosts: Vec::new(),
            policy_version: 1,
            issued_at: now,
            expires_at: now + Duration::from_secs(900),
        };
        let opener = carried(&pair, consume).await;
        World {
            opener,
            signer: GrantSigner::new(&grant_key),
            grant,
            port,
            wanted: wanted_tx,
            leaving,
        }
    }

    async fn carried(pair: &Pair, consume: Consume) -> Opener {
        let Met { acceptor, opener, opening, .. } = pair.consumes().await;
        tokio::spawn(async move { consume.serve(acceptor, &CancellationToken::new()).await });
        tokio::spawn(opening);
        opener
    }

    /// A DNS server that sends every question back as an answer.
    async fn dns_server() -> SocketAddr {
        let server = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
        let address = server.local_addr().expect("bound");
        tokio::spawn(async move {
            let mut buffer = [0; 512];
            while let Ok((length, from)) = server.recv_from(&mut buffer).await {
                buffer[2] |= 0x80;
                server.send_to(&buffer[..length], from).await.expect("sent");
            }
        });
        address
    }

    /// Opens a port at which every connection is greeted.
    async fn answering_port() -> Port {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _laptop_gone = stream.write_all(b"hello").await;
            }
        });
        Port::new(port).expect("a port")
    }

    fn service(name: &str, ports: &[u16]) -> ServiceSeen {
        let ports: Vec<_> = ports.iter().map(|port| json!({"port": port})).collect();
        made_up::service(name, json!({"clusterIP": "127.0.0.1", "ports": ports}))
    }

    impl World {
        async fn shows(&self, grant: &Grant) -> Result<(), OpenFailed> {
            self.opener.present_grant(&self.signer.sign(grant)).await
        }

        /// Waits for the end of the carrier.
        async fn is_over(&self) {
            timeout(Duration::from_secs(10), self.opener.closed()).await.expect("the carrier ends");
        }

        async fn asks(&self, service: &str, port: Port) -> Result<String, OpenFailed> {
            self.asks_in(self.grant.session, service, port).await
        }

        async fn asks_in(
            &self,
            session: SessionId,
            service: &str,
            port: Port,
        ) -> Result<String, OpenFailed> {
            let service = service.parse().expect("valid");
            let wish = OpenRequest::tcp(session, service, port);
            let mut stream = self.opener.open(&wish).await?;
            let mut said = String::new();
            stream.read_to_string(&mut said).await.expect("readable");
            Ok(said)
        }
    }

    fn is_not_allowed(answer: &Result<String, OpenFailed>) -> bool {
        matches!(answer, Err(OpenFailed::Refused(refused)) if refused.refusal == Refusal::NotAllowed)
    }

    #[test]
    fn a_headless_service_is_dialled_by_its_name_and_nothing_outside_the_cluster() {
        let seen = |spec: serde_json::Value| {
            let service = made_up::service("ledger", spec);
            let callee = service.service.clone();
            let inventory = Inventory::of(vec![service], Vec::new());
            destination_of(&inventory, &callee, None, tcp(7000))
        };
        let ports = json!([{"port": 7000}]);
        for ports in [&ports, &json!(null)] {
            let headless = seen(json!({"clusterIP": "None", "ports": ports})).expect("dialled");
            assert_eq!(headless, Destination::Name("ledger.shop.svc".to_owned(), 7000));
        }
        assert!(seen(json!({"clusterIP": "10.96.0.7", "ports": [{"port": 80}]})).is_err());
        let outside =
            json!({"type": "ExternalName", "externalName": "example.com", "ports": ports});
        assert!(seen(outside).is_err());
    }

    fn tcp(number: u16) -> ServicePort {
        ServicePort::tcp(Port::new(number).expect("a port"))
    }

    #[test]
    fn a_pod_is_dialled_where_its_endpoint_is_while_it_is_ready() {
        let mut slice = made_up::slice(names::MANAGED_BY_CLUSTER, "", &["10.0.0.4", "10.0.0.5"]);
        slice["endpoints"][0]["hostname"] = "cart-0".into();
        slice["endpoints"][1]["hostname"] = "cart-1".into();
        slice["endpoints"][1]["conditions"]["ready"] = false.into();
        let slice = made_up::slice_seen(slice, "nobody");
        let cart = made_up::cart(json!({"clusterIP": "None"}));
        let inventory = Inventory::of(vec![cart.clone()], vec![slice]);
        let dialled = |pod: &str| {
            let pod = pod.parse().expect("valid");
            let dialled = destination_of(&inventory, &cart.service, Some(&pod), tcp(7000));
            dialled.map_err(|(refusal, _)| refusal)
        };
        let there = Destination::Address("10.0.0.4:7000".parse().expect("an address"));
        assert_eq!(dialled("cart-0"), Ok(there));
        assert_eq!(dialled("cart-1"), Err(Refusal::Unreachable));
        assert_eq!(dialled("cart-2"), Err(Refusal::NotFound));
    }

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
    async fn a_stream_within_the_grant_reaches_its_service() {
        let world = world().await;
        world.shows(&world.grant).await.expect("a good grant");
        assert_eq!(world.asks("shop/cart", world.port).await.expect("covered"), "hello");
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

    #[tokio::test]
    async fn names_are_resolved_below_what_the_grant_covers_and_nowhere_else() {
        let world = world().await;
        let asks = async |name: &str| {
            let name = name.parse().expect("valid");
            let question = ResolveRequest { session: world.grant.session, name, record: 33 };
            world.opener.resolve(&question).await
        };
        assert!(asks("_lines._tcp.cart.shop").await.is_err(), "no grant was shown");
        world.shows(&world.grant).await.expect("a good grant");
        let answer = asks("_lines._tcp.cart.shop").await.expect("covered");
        assert!(answer.windows(5).any(|part| part == b"\x04cart"), "{answer:?}");
        for other in ["_lines._tcp.payment.shop", "cart.pay"] {
            let refused = asks(other).await.expect_err("not covered").to_string();
            assert!(refused.contains("does not cover"), "{other}: {refused}");
        }
    }

    #[tokio::test]
    async fn a_stream_outside_the_grant_is_refused() {
        let world = world().await;
        world.shows(&world.grant).await.expect("a good grant");
        let answers = [
            world.asks("shop/payment", world.port).await,
            world.asks("shop/cart", Port::new(1).expect("a port")).await,
            world.asks_in(SessionId::generate(), "shop/cart", world.port).await,
        ];
        for answer in answers {
            assert!(is_not_allowed(&answer), "{answer:?}");
        }
    }

    #[tokio::test]
    async fn a_host_outside_needs_a_grant_of_its_very_port_and_an_address_that_is_outside() {
        let world = world().await;
        let host: HostName = "db.example.net".parse().expect("valid");
        let asks = async |port: ServicePort| {
            let Grant { session, .. } = world.grant;
            let callee = host.clone().into();
            let wish = OpenRequest { session, callee, port, probe: false };
            world.opener.open(&wish).await.expect_err("refused").to_string()
        };
        let port = ServicePort::tcp(world.port);
        world.shows(&world.grant).await.expect("a good grant");
        let refused = asks(port).await;
        assert!(refused.contains("does not cover db.example.net"), "{refused}");

        let hosts = vec![format!("{host}:{}", world.port).parse().expect("valid")];
        let grant = Grant { hosts, ..world.grant.clone() };
        world.shows(&grant).await.expect("a good grant");
        for other in [tcp(1), ServicePort::udp(world.port)] {
            let refused = asks(other).await;
            assert!(refused.contains("does not cover"), "{other}: {refused}");
        }
        let refused = asks(port).await;
        assert!(refused.contains("is at 127.0.0.1: that is the agent's own pod"), "{refused}");
    }

    #[tokio::test]
    async fn without_a_good_grant_there_is_no_stream() {
        let world = world().await;
        assert!(is_not_allowed(&world.asks("shop/cart", world.port).await), "none was shown");
        let stolen = Grant { device: Thumbprint::from_bytes([8; 32]), ..world.grant.clone() };
        let other = Grant { session: SessionId::generate(), ..world.grant.clone() };
        let long_ago = world.grant.issued_at - Duration::from_secs(2000);
        let old = Grant {
            issued_at: long_ago,
            expires_at: long_ago + Duration::from_secs(900),
            ..world.grant.clone()
        };
        for bad in [stolen, other, old] {
            world.shows(&bad).await.expect_err("worth nothing here");
            assert!(is_not_allowed(&world.asks("shop/cart", world.port).await), "{bad:?}");
        }
    }

    #[tokio::test]
    async fn a_carrier_ends_with_its_grant_and_a_newer_one_keeps_it() {
        let [ends, goes_on] = [world().await, world().await];
        let soon = SystemTime::now() + Duration::from_secs(2);
        for world in [&ends, &goes_on] {
            let short = Grant { expires_at: soon, ..world.grant.clone() };
            world.shows(&short).await.expect("a good grant");
            world.asks("shop/cart", world.port).await.expect("covered");
        }
        goes_on.shows(&goes_on.grant).await.expect("a newer one");
        ends.is_over().await;
        assert!(SystemTime::now() >= soon - Duration::from_secs(1), "not before its time");
        goes_on.asks("shop/cart", goes_on.port).await.expect("covered by the newer one");
    }

    #[tokio::test]
    async fn a_replica_that_leaves_takes_no_more_streams_and_lets_those_that_are_open_end() {
        let world = world().await;
        world.shows(&world.grant).await.expect("a good grant");
        let (session, service) = (world.grant.session, "shop/cart".parse().expect("valid"));
        let wish = OpenRequest::tcp(session, service, world.port);
        let open = world.opener.open(&wish).await.expect("covered");
        world.leaving.cancel();
        let refused = async { while world.asks("shop/cart", world.port).await.is_ok() {} };
        timeout(Duration::from_secs(10), refused).await.expect("it takes no more");
        assert!(!world.opener.takes_streams(), "whoever asks next asks elsewhere");
        assert!(!world.opener.is_closed(), "one is open");
        drop(open);
        world.is_over().await;
    }

    #[tokio::test]
    async fn a_carrier_ends_with_its_session() {
        let world = world().await;
        world.shows(&world.grant).await.expect("a good grant");
        world.wanted.send_replace(Some(Arc::new(Wanted::default())));
        world.is_over().await;
    }
}
