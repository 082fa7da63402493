//! Consumes: each stream that a laptop opens is checked against its grant and connected to the Service it names,
//! through the Service's own address, so that the cluster balances as it always does; a headless one by its name.

use std::{
    collections::BTreeSet,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use fairlead_model::{Port, ServiceRef, SessionId, Thumbprint};
use fairlead_tunnel::{Acceptor, GrantPresented, Incoming, StreamOffered, copy};
use fairlead_wire::open::Refusal;
use tokio::{net::TcpStream, sync::watch, task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use crate::{
    grants::Grants,
    held::Held,
    report::{FirstUse, FirstUses},
    watch::Inventory,
};

const CONNECT: Duration = Duration::from_secs(5);
/// Grants that are on their way on one carrier; a laptop shows one, and a newer one five minutes later.
const GRANTS_ARRIVING_MAX: usize = 4;

/// What a session has used already, on whichever of its carriers: each service is reported once.
#[derive(Debug, Default)]
pub(crate) struct Used(Mutex<BTreeSet<(ServiceRef, Port)>>);

impl Used {
    /// Says whether this is the first use.
    fn begins(&self, service: &ServiceRef, port: Port) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert((service.clone(), port))
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
                Some(Incoming::Grant(shown)) => shown.refuse("too many grants at once"),
                Some(Incoming::Open(offer)) => {
                    self.open(offer, grant.as_ref(), streams.clone());
                }
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
                info!(session = %self.session, %error, "A grant was refused");
                shown.refuse(error.to_string());
                None
            }
        }
    }

    /// Decides about one stream and carries it in a task of its own.
    fn open(&self, offer: StreamOffered, grant: Option<&Held>, ends: CancellationToken) {
        let request = offer.request().clone();
        let Some(grant) = grant.and_then(Held::live) else {
            return offer.refuse(Refusal::NotAllowed, "no grant was shown on this carrier");
        };
        if request.session != self.session || !grant.allows(&request.service, request.port) {
            let reason = format!("the grant does not cover {}:{}", request.service, request.port);
            return offer.refuse(Refusal::NotAllowed, reason);
        }
        let destination =
            match destination_of(&self.inventory.borrow(), &request.service, request.port) {
                Ok(destination) => destination,
                Err((refusal, reason)) => return offer.refuse(refusal, reason),
            };
        // A probe is no use: nobody asked for the service.
        if !request.probe && self.used.begins(&request.service, request.port) {
            let (session, service, port) = (self.session, request.service.clone(), request.port);
            self.first_uses.tell(FirstUse { session, service, port });
        }
        tokio::spawn(async move {
            tokio::select! {
                () = carry(offer, destination, &request.service) => {}
                () = ends.cancelled() => {}
            }
        });
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
/// cluster does.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Destination {
    Address(SocketAddr),
    Name(String, u16),
}

impl Destination {
    async fn dial(self) -> io::Result<TcpStream> {
        match self {
            Self::Address(address) => TcpStream::connect(address).await,
            Self::Name(name, port) => TcpStream::connect((name, port)).await,
        }
    }
}

fn destination_of(
    inventory: &Inventory,
    service: &ServiceRef,
    port: Port,
) -> Result<Destination, (Refusal, String)> {
    let Some(seen) = inventory.service(service) else {
        return Err((Refusal::NotFound, format!("{service} does not exist in this cluster")));
    };
    let found = seen.ports.iter().find(|p| p.port == port.get() && p.protocol == "TCP");
    if found.is_none() {
        return Err((Refusal::NotFound, format!("{service} has no TCP port {port}")));
    }
    match (seen.cluster_ip, seen.kind) {
        (Some(ip), _) => Ok(Destination::Address(SocketAddr::new(ip, port.get()))),
        (None, "Headless") => {
            let name = format!("{}.{}.svc", service.name, service.namespace);
            Ok(Destination::Name(name, port.get()))
        }
        // An ExternalName leads out of the cluster, which nobody was allowed.
        (None, kind) => Err((
            Refusal::Unreachable,
            format!("{service} is {kind} and has no address of its own"),
        )),
    }
}

async fn carry(offer: StreamOffered, destination: Destination, service: &ServiceRef) {
    let begun = Instant::now();
    let pod = match timeout(CONNECT, destination.dial()).await {
        Ok(Ok(pod)) => pod,
        Ok(Err(error)) => return offer.refuse(Refusal::Unreachable, why(&error, service)),
        Err(_) => {
            let reason = format!(
                "{service} does not answer within {} s: a NetworkPolicy may keep the agent out, or its pods hang",
                CONNECT.as_secs()
            );
            return offer.refuse(Refusal::Unreachable, reason);
        }
    };
    let _best_effort = pod.set_nodelay(true);
    match offer.accept_after(begun.elapsed()) {
        Ok(stream) => {
            let copied = copy::both_ways(stream, pod).await;
            debug!(%service, ?copied, "A consumed connection ended");
        }
        Err(error) => debug!(%service, %error, "The laptop gave up while the Service was dialled"),
    }
}

fn why(error: &io::Error, service: &ServiceRef) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            format!(
                "{service} refuses the connection: it has no ready pod, or none that listens on this port"
            )
        }
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            format!("{service} cannot be reached from the agent: a NetworkPolicy may keep it out")
        }
        _ => format!("{service} cannot be reached: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use fairlead_model::{GrantId, OrgId, SessionKind, TeamspaceId, UserId};
    use fairlead_tunnel::{OpenFailed, Opener};
    use fairlead_wire::{
        authority::TeamspaceAuthority,
        grant::{Grant, GrantSigner, GrantedService},
        key::Key,
        open::OpenRequest,
    };
    use rustls_pki_types::CertificateDer;
    use serde_json::json;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;
    use crate::{
        enrol::Enrolled,
        made_up,
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
        let services = vec![service("cart", &[port.get(), 1]), service("payment", &[port.get()])];
        let consume = Consume {
            session,
            device,
            grants: Grants::new(&enrolled, wanted_rx),
            inventory: watch::channel(Inventory::of(services, Vec::new())).1,
            first_uses: FirstUses::queue().0,
            used: Arc::default(),
            leaving: leaving.clone(),
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
                ports: vec![port],
            }],
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
            let wish = OpenRequest { session, service, port, probe: false };
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
            let port = Port::new(7000).expect("a port");
            destination_of(
                &Inventory::of(vec![service.clone()], Vec::new()),
                &service.service,
                port,
            )
        };
        let ports = json!([{"port": 7000}]);
        let headless = seen(json!({"clusterIP": "None", "ports": ports})).expect("dialled");
        assert_eq!(headless, Destination::Name("ledger.shop.svc".to_owned(), 7000));
        let outside =
            json!({"type": "ExternalName", "externalName": "example.com", "ports": ports});
        assert!(seen(outside).is_err());
    }

    #[tokio::test]
    async fn only_a_probe_hears_how_long_the_agents_own_connection_took() {
        let world = world().await;
        world.shows(&world.grant).await.expect("accepted");
        for probe in [true, false] {
            let Grant { session, .. } = world.grant;
            let service = "shop/cart".parse().expect("valid");
            let wish = OpenRequest { session, service, port: world.port, probe };
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
        let wish = OpenRequest { session, service, port: world.port, probe: false };
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
