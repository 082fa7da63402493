//! A relay, a laptop and an agent in one process, joined over loopback.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use fairlead_model::{CarrierId, DeviceId, OrgId, Port, SessionId, Thumbprint, UserId};
use fairlead_tunnel::{
    Acceptor, Copied, Incoming, Opener, PeerExpectation, TlsIdentity, both_ways,
    connect::{Connector, RelayError, dial_relay},
    connection::Connection as Wire,
};
use fairlead_wire::{
    authority::{DeviceRequest, OrganizationAuthority, TeamspaceAuthority},
    identity::DeviceName,
    key::Key,
    open::OpenRequest,
    preface::Side,
    ticket::Ticket,
};
use hub_relay::{CarrierMeta, Limits, Offer, Relay};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Mutex, mpsc},
    task::JoinHandle,
    time::timeout,
};

/// What every application says first.
pub(crate) const GREETING: &[u8] = b"hello";
/// Longer than anything here may take, on a machine that does other things too.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct World {
    pub(crate) relay: Relay,
    pub(crate) address: String,
    pub(crate) organization: OrganizationAuthority,
    pub(crate) teamspace: TeamspaceAuthority,
    pub(crate) device_key: Key,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with_limits(Limits::default()).await
    }

    pub(crate) async fn with_limits(limits: Limits) -> Self {
        let relay = Relay::new(limits);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        let served = relay.clone();
        tokio::spawn(async move { served.serve(listener).await.expect("serves") });
        let now = SystemTime::now();
        Self {
            relay,
            address,
            organization: OrganizationAuthority::create(OrgId::generate(), key(), now)
                .expect("made"),
            teamspace: TeamspaceAuthority::create(key(), now).expect("made"),
            device_key: key(),
        }
    }

    pub(crate) fn laptop(&self) -> TlsIdentity {
        device_of(&self.organization, &self.device_key)
    }

    pub(crate) fn replica(&self) -> TlsIdentity {
        replica_of(&self.teamspace)
    }

    pub(crate) fn expects_replica(&self) -> PeerExpectation {
        PeerExpectation::replica(self.teamspace.certificate().clone(), &self.teamspace.thumbprint())
            .expect("the pinned one")
    }

    pub(crate) fn expects_device(&self) -> PeerExpectation {
        self.expects_device_key(self.device_key.thumbprint())
    }

    pub(crate) fn expects_device_key(&self, thumbprint: Thumbprint) -> PeerExpectation {
        PeerExpectation::device(self.organization.certificate().clone(), thumbprint)
    }

    pub(crate) fn offer(&self) -> (CarrierMeta, Offer) {
        let meta = CarrierMeta {
            carrier: CarrierId::generate(),
            session: SessionId::generate(),
            organization: OrgId::generate(),
            user: UserId::generate(),
        };
        (meta, self.relay.offer(meta).expect("offered"))
    }

    pub(crate) async fn dial(&self, ticket: &Ticket, side: Side) -> Result<Wire, RelayError> {
        dial_relay(&self.address, ticket, side, &Connector::default()).await
    }

    /// Returns the two ends of a joined carrier, laptop first, with nothing said on them yet.
    pub(crate) async fn joined(&self) -> (CarrierMeta, Wire, Wire) {
        self.joined_through(&self.address, &self.address).await
    }

    pub(crate) async fn joined_through(
        &self,
        from_laptop: &str,
        from_cluster: &str,
    ) -> (CarrierMeta, Wire, Wire) {
        let (meta, offer) = self.offer();
        let (laptop, cluster) = both_dial(from_laptop, from_cluster, &offer).await;
        (meta, laptop, cluster)
    }

    /// Makes one more carrier of a session.
    pub(crate) async fn consume_of(&self, session: SessionId) -> Carrier {
        let meta = CarrierMeta {
            carrier: CarrierId::generate(),
            session,
            organization: OrgId::generate(),
            user: UserId::generate(),
        };
        let offer = self.relay.offer(meta).expect("offered");
        let (laptop, cluster) = both_dial(&self.address, &self.address, &offer).await;
        self.consume_over(meta, laptop, cluster).await
    }

    /// Makes a carrier whose laptop opens streams.
    pub(crate) async fn consume(&self) -> Carrier {
        let (meta, laptop, cluster) = self.joined().await;
        self.consume_over(meta, laptop, cluster).await
    }

    pub(crate) async fn consume_over(
        &self,
        meta: CarrierMeta,
        laptop: Wire,
        cluster: Wire,
    ) -> Carrier {
        let (laptop_id, replica_id) = (self.laptop(), self.replica());
        let (replica, device) = (self.expects_replica(), self.expects_device());
        let accepted =
            tokio::spawn(
                async move { drive(Acceptor::handshake(cluster, &replica_id, &device)).await },
            );
        let opener = drive(Opener::handshake(laptop, &laptop_id, &replica)).await.expect("agreed");
        let acceptor = accepted.await.expect("no panic").expect("agreed");
        Carrier { meta, opener, acceptor }
    }
}

async fn both_dial(from_laptop: &str, from_cluster: &str, offer: &Offer) -> (Wire, Wire) {
    let direct = Connector::default();
    let (laptop, cluster) = tokio::join!(
        dial_relay(from_laptop, &offer.laptop, Side::Laptop, &direct),
        dial_relay(from_cluster, &offer.cluster, Side::Cluster, &direct),
    );
    (laptop.expect("joined"), cluster.expect("joined"))
}

/// Waits for a handshake and drives its carrier.
pub(crate) async fn drive<T>(
    handshake: impl Future<
        Output = Result<(T, fairlead_tunnel::Driver), fairlead_tunnel::HandshakeError>,
    >,
) -> Result<T, fairlead_tunnel::HandshakeError> {
    let (end, driver) = handshake.await?;
    tokio::spawn(driver);
    Ok(end)
}

pub(crate) struct Carrier {
    pub(crate) meta: CarrierMeta,
    pub(crate) opener: Opener,
    pub(crate) acceptor: Acceptor,
}

impl Carrier {
    /// Puts an application at one end and a service at the other.
    pub(crate) async fn path(self) -> Path {
        let Self { meta, opener, acceptor } = self;
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let service = listener.local_addr().expect("bound");
        let (ended_tx, ended_rx) = mpsc::channel(4096);
        tokio::spawn(agent(acceptor, service, ended_tx));
        Path {
            meta,
            opener: Arc::new(opener),
            services: listener,
            agent_ended: Mutex::new(ended_rx),
        }
    }
}

async fn agent(mut acceptor: Acceptor, service: std::net::SocketAddr, ended: mpsc::Sender<Copied>) {
    while let Some(incoming) = acceptor.next().await {
        let Incoming::Open(offered) = incoming else { continue };
        let ended = ended.clone();
        tokio::spawn(async move {
            let tcp = TcpStream::connect(service).await.expect("the service listens");
            let stream = offered.accept().expect("still wanted");
            ended.send(both_ways(stream, tcp).await).await.expect("counted");
        });
    }
}

/// An application on a laptop and a service in a cluster, and everything between them.
pub(crate) struct Path {
    pub(crate) meta: CarrierMeta,
    pub(crate) opener: Arc<Opener>,
    services: TcpListener,
    agent_ended: Mutex<mpsc::Receiver<Copied>>,
}

/// One connection: what the application holds, what the service holds, and the daemon's copy between.
pub(crate) struct Connection {
    pub(crate) app: TcpStream,
    pub(crate) service: TcpStream,
    pub(crate) daemon: JoinHandle<Copied>,
}

impl Path {
    /// Connects, and returns when a greeting has passed from the application to the service.
    pub(crate) async fn connect(&self) -> Connection {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let opener = Arc::clone(&self.opener);
        let daemon = tokio::spawn(async move {
            let (tcp, _) = listener.accept().await.expect("the application connects");
            let stream = opener.open_early(&wish()).await.expect("opened");
            both_ways(stream, tcp).await
        });
        let mut app = TcpStream::connect(address).await.expect("listening");
        let (mut service, _) = in_time(self.services.accept()).await.expect("the agent connects");
        app.write_all(GREETING).await.expect("taken");
        in_time(service.read_exact(&mut [0; GREETING.len()])).await.expect("through");
        Connection { app, service, daemon }
    }

    /// Returns how the next of the agent's copies ended.
    pub(crate) async fn agent_ended(&self) -> Copied {
        in_time(async { self.agent_ended.lock().await.recv().await }).await.expect("ended")
    }
}

pub(crate) async fn in_time<T>(happens: impl Future<Output = T>) -> T {
    timeout(PATIENCE, happens).await.expect("within a minute")
}

pub(crate) fn key() -> Key {
    Key::generate().expect("made")
}

pub(crate) fn wish() -> OpenRequest {
    let cart = "shop/cart".parse().expect("valid");
    OpenRequest::tcp(SessionId::generate(), cart, Port::new(80).expect("not 0"))
}

pub(crate) fn device_of(organization: &OrganizationAuthority, key: &Key) -> TlsIdentity {
    let request = DeviceRequest::make_pem(key).expect("made");
    let request = DeviceRequest::parse_pem(&request).expect("its own");
    let name = DeviceName {
        organization: OrgId::generate(),
        user: UserId::generate(),
        device: DeviceId::generate(),
    };
    let signed = organization.sign_device(&request, name, SystemTime::now()).expect("signed");
    TlsIdentity::new(vec![signed.certificate], key).expect("fits")
}

pub(crate) fn replica_of(teamspace: &TeamspaceAuthority) -> TlsIdentity {
    let key = key();
    let leaf = teamspace.sign_replica(&key, "fairlead-agent-0", SystemTime::now()).expect("signed");
    TlsIdentity::new(vec![leaf, teamspace.certificate().clone()], &key).expect("fits")
}

/// Bytes that repeat nothing within any window of the tunnel.
pub(crate) fn noise(bytes: usize) -> Vec<u8> {
    let mut noise = vec![0; bytes];
    rand::Rng::fill_bytes(&mut rand::rng(), &mut noise);
    noise
}
