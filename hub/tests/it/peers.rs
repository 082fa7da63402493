//! The other ends of links: an agent and a laptop with real keys and certificates, that do only what a test says.

use fairlead_model::TeamspaceId;
use fairlead_tunnel::websocket::{LINK_PATH, WebSocket};
use fairlead_wire::{
    authority::TeamspaceAuthority,
    challenge, enrolment,
    key::Key,
    link::v1,
    link::v1::{
        CarrierOffer, Catalogue, CatalogueService, ClusterDown, ClusterUp, EnrolReply,
        EnrolRequest, Hello, LaptopDown, LaptopUp, Phase, Revoked, SessionObserved, Wanted,
        cluster_down, cluster_links_client::ClusterLinksClient, cluster_up, laptop_down,
        laptop_links_client::LaptopLinksClient, laptop_up,
    },
};
use hyper_util::rt::TokioIo;
use rustls_pki_types::CertificateDer;
use serde_json::json;
use tokio::{net::TcpStream, sync::mpsc, time};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming, transport::Channel};

use crate::{
    people::{Laptop, Person},
    world::{HOST, PATIENCE, World},
};

pub(crate) async fn channel(world: &World) -> Channel {
    let endpoint = Channel::from_shared(world.url("")).expect("a URL");
    endpoint.connect().await.expect("the hub listens")
}

/// Connects as where something on the way opens TLS: inside a WebSocket.
pub(crate) async fn channel_in_a_websocket(world: &World) -> Channel {
    let tcp = TcpStream::connect(world.address).await.expect("listening");
    let socket = WebSocket::dial(Box::new(tcp), HOST, world.address.port(), LINK_PATH).await;
    let mut only_one = Some(TokioIo::new(socket.expect("opened")));
    let taken = tower::service_fn(move |_| {
        let socket = only_one.take().ok_or(std::io::ErrorKind::NotConnected);
        std::future::ready(socket.map_err(std::io::Error::from))
    });
    let endpoint = Channel::from_shared(world.url("")).expect("a URL");
    endpoint.connect_with_connector(taken).await.expect("the hub speaks HTTP/2 inside")
}

/// A cluster: its teamspace key, and the key of its one replica.
pub(crate) struct Cluster {
    pub(crate) uid: String,
    pub(crate) authority: TeamspaceAuthority,
    replica_key: Key,
    replica_certificate: CertificateDer<'static>,
}

pub(crate) const POD: &str = "fairlead-agent-0";

impl Cluster {
    pub(crate) fn new(world: &World, uid: &str) -> Self {
        let now = world.now().into();
        let authority =
            TeamspaceAuthority::create(Key::generate().expect("a key"), now).expect("a key");
        let replica_key = Key::generate().expect("a key");
        let replica_certificate =
            authority.sign_replica(&replica_key, POD, now).expect("a certificate");
        Self { uid: uid.to_owned(), authority, replica_key, replica_certificate }
    }

    pub(crate) fn request(&self, world: &World, token: &str) -> EnrolRequest {
        self.request_as(world, token, &self.uid)
    }

    /// Returns the request of whoever holds this teamspace key in the cluster `uid`.
    pub(crate) fn request_as(&self, world: &World, token: &str, uid: &str) -> EnrolRequest {
        let signature = token.parse().map_or_else(
            |_| Vec::new(),
            |token| enrolment::sign(self.authority.key(), &token, uid, HOST).to_vec(),
        );
        EnrolRequest {
            join_token: token.to_owned(),
            teamspace_certificate: self.authority.certificate().to_vec(),
            signature,
            cluster_uid: uid.to_owned(),
            agent_version: "test".to_owned(),
            agent_time_s: world.now().as_second(),
        }
    }

    pub(crate) async fn enrol(&self, world: &World, token: &str) -> Result<EnrolReply, Status> {
        let request = self.request(world, token);
        enrol(world, request).await
    }

    /// Connects and waits to be welcomed.
    pub(crate) async fn connect(&self, world: &World) -> Result<AgentLink, Status> {
        let mut link = AgentLink::open(world).await?;
        let cluster_down::Message::Challenge(challenge) = link.next().await? else {
            panic!("a link begins with a challenge")
        };
        let authority = self.authority.certificate().to_vec();
        let hello = Hello {
            certificate_chain: vec![self.replica_certificate.to_vec(), authority],
            signature: challenge::sign(&self.replica_key, &challenge.nonce, HOST).to_vec(),
            version: "test".to_owned(),
            name: POD.to_owned(),
            time_s: world.now().as_second(),
        };
        link.say(cluster_up::Message::Hello(hello)).await;
        match link.next().await? {
            cluster_down::Message::Welcome(_) => Ok(link),
            other => panic!("expected a welcome: {other:?}"),
        }
    }
}

pub(crate) async fn enrol(world: &World, request: EnrolRequest) -> Result<EnrolReply, Status> {
    let reply = ClusterLinksClient::new(channel(world).await).enrol(request).await?;
    Ok(reply.into_inner())
}

pub(crate) struct AgentLink {
    up_tx: mpsc::Sender<ClusterUp>,
    down: Streaming<ClusterDown>,
}

impl AgentLink {
    pub(crate) async fn open(world: &World) -> Result<Self, Status> {
        let (up_tx, up_rx) = mpsc::channel(16);
        let up = ReceiverStream::new(up_rx);
        let down = ClusterLinksClient::new(channel(world).await).open(up).await?.into_inner();
        Ok(Self { up_tx, down })
    }

    pub(crate) async fn say(&self, message: cluster_up::Message) {
        self.up_tx.send(ClusterUp { message: Some(message) }).await.expect("the link is open");
    }

    /// Says what only a newer hub would understand.
    pub(crate) async fn says_something_new(&self) {
        self.up_tx.send(ClusterUp { message: None }).await.expect("the link is open");
    }

    /// Returns what the hub says next, heartbeats aside.
    pub(crate) async fn next(&mut self) -> Result<cluster_down::Message, Status> {
        loop {
            let said = time::timeout(PATIENCE, self.down.message()).await;
            let said = said.expect("the hub says something")?;
            match said.map(|said| said.message.expect("a message")) {
                Some(cluster_down::Message::Heartbeat(_)) => {}
                Some(message) => return Ok(message),
                None => return Err(Status::aborted("the link was closed")),
            }
        }
    }

    /// Waits until the hub ends the link. One that is merely silent ends after a while as well, without these words.
    pub(crate) async fn is_ended(&mut self) {
        let ended = loop {
            if let Err(status) = self.next().await {
                break status;
            }
        };
        assert!(ended.message().contains("another link took the place of this one"), "{ended}");
    }

    /// Waits for a list of wanted sessions that `fits`.
    pub(crate) async fn wanted(&mut self, fits: impl Fn(&Wanted) -> bool) -> Wanted {
        loop {
            if let cluster_down::Message::Wanted(wanted) = self.next().await.expect("connected")
                && fits(&wanted)
            {
                return wanted;
            }
        }
    }

    pub(crate) async fn carrier(&mut self) -> CarrierOffer {
        loop {
            if let cluster_down::Message::Carrier(offer) = self.next().await.expect("connected") {
                return offer;
            }
        }
    }

    pub(crate) async fn revoked(&mut self) -> Revoked {
        loop {
            if let cluster_down::Message::Revoked(revoked) = self.next().await.expect("connected") {
                return revoked;
            }
        }
    }

    /// Reports these services as the whole catalogue, each with TCP port 80.
    pub(crate) async fn reports(&self, services: &[&str]) {
        let changed = services.iter().map(|name| service(name)).collect();
        let catalogue = Catalogue { full: true, changed, ..Catalogue::default() };
        self.say(cluster_up::Message::Catalogue(catalogue)).await;
    }

    pub(crate) async fn observes(&self, session: &str, phase: Phase, detail: &str) {
        let observed = observed(session, phase, detail);
        self.say(cluster_up::Message::Observed(observed)).await;
    }
}

pub(crate) fn observed(session: &str, phase: Phase, detail: &str) -> SessionObserved {
    SessionObserved {
        session_id: session.to_owned(),
        phase: phase.into(),
        detail: detail.to_owned(),
        replica: String::new(),
    }
}

pub(crate) fn service(name: &str) -> CatalogueService {
    let (namespace, name) = name.split_once('/').expect("namespace/name");
    CatalogueService {
        service: Some(v1::ServiceRef { namespace: namespace.to_owned(), name: name.to_owned() }),
        ports: vec![v1::CataloguePort {
            name: "http".to_owned(),
            port: 80,
            protocol: "TCP".to_owned(),
            target_port: "8080".to_owned(),
            app_protocol: String::new(),
        }],
        workload: format!("Deployment/{name}"),
        ready_endpoints: 2,
        r#type: "ClusterIP".to_owned(),
        labels: Default::default(),
        intercept_refusal: String::new(),
        pods: Vec::new(),
    }
}

pub(crate) struct LaptopLink {
    up_tx: mpsc::Sender<LaptopUp>,
    down: Streaming<LaptopDown>,
    pub(crate) live_sessions: Vec<String>,
}

impl Laptop {
    /// Connects and waits to be welcomed.
    pub(crate) async fn connect(&self, world: &World) -> Result<LaptopLink, Status> {
        self.connect_over(channel(world).await, world).await
    }

    pub(crate) async fn connect_over(
        &self,
        channel: Channel,
        world: &World,
    ) -> Result<LaptopLink, Status> {
        let mut link = LaptopLink::open_over(channel).await?;
        let laptop_down::Message::Challenge(challenge) = link.next().await? else {
            panic!("a link begins with a challenge")
        };
        let hello = Hello {
            certificate_chain: vec![self.certificate.to_vec()],
            signature: challenge::sign(&self.key, &challenge.nonce, HOST).to_vec(),
            version: "test".to_owned(),
            name: "laptop".to_owned(),
            time_s: world.now().as_second(),
        };
        link.say(laptop_up::Message::Hello(hello)).await;
        match link.next().await? {
            laptop_down::Message::Welcome(welcome) => {
                link.live_sessions = welcome.live_sessions;
                Ok(link)
            }
            other => panic!("expected a welcome: {other:?}"),
        }
    }
}

impl LaptopLink {
    pub(crate) async fn open(world: &World) -> Result<Self, Status> {
        Self::open_over(channel(world).await).await
    }

    async fn open_over(channel: Channel) -> Result<Self, Status> {
        let (up_tx, up_rx) = mpsc::channel(16);
        let up = ReceiverStream::new(up_rx);
        let down = LaptopLinksClient::new(channel).open(up).await?.into_inner();
        Ok(Self { up_tx, down, live_sessions: Vec::new() })
    }

    pub(crate) async fn say(&self, message: laptop_up::Message) {
        self.up_tx.send(LaptopUp { message: Some(message) }).await.expect("the link is open");
    }

    pub(crate) async fn next(&mut self) -> Result<laptop_down::Message, Status> {
        loop {
            let said = time::timeout(PATIENCE, self.down.message()).await;
            let said = said.expect("the hub says something")?;
            match said.map(|said| said.message.expect("a message")) {
                Some(laptop_down::Message::Heartbeat(_)) => {}
                Some(message) => return Ok(message),
                None => return Err(Status::aborted("the link was closed")),
            }
        }
    }

    /// Waits until the hub ends the link. One that is merely silent ends after a while as well, without these words.
    pub(crate) async fn is_ended(&mut self) {
        let ended = loop {
            if let Err(status) = self.next().await {
                break status;
            }
        };
        assert!(ended.message().contains("another link took the place of this one"), "{ended}");
    }

    pub(crate) async fn asks_for_a_carrier(&self, session: &str, request_id: u64) {
        let request = v1::CarrierRequest {
            session_id: session.to_owned(),
            replica: String::new(),
            request_id,
        };
        self.say(laptop_up::Message::Carrier(request)).await;
    }

    /// Waits for the answer to a request for a carrier.
    pub(crate) async fn echo(&mut self) -> u64 {
        loop {
            if let laptop_down::Message::Echo(echo) = self.next().await.expect("connected") {
                return echo.number;
            }
        }
    }

    pub(crate) async fn carrier(&mut self) -> Result<CarrierOffer, String> {
        loop {
            match self.next().await.expect("connected") {
                laptop_down::Message::Carrier(offer) => return Ok(offer),
                laptop_down::Message::CarrierRefused(refused) => return Err(refused.reason),
                _ => {}
            }
        }
    }

    pub(crate) async fn revoked(&mut self) -> Revoked {
        loop {
            if let laptop_down::Message::Revoked(revoked) = self.next().await.expect("connected") {
                return revoked;
            }
        }
    }

    pub(crate) async fn grant(&mut self) -> v1::Grant {
        loop {
            if let laptop_down::Message::Grant(grant) = self.next().await.expect("connected") {
                return grant;
            }
        }
    }
}

/// A teamspace that a cluster has joined, with its agent connected and its services known.
pub(crate) struct Joined {
    pub(crate) id: TeamspaceId,
    pub(crate) cluster: Cluster,
    pub(crate) agent: AgentLink,
    pub(crate) reply: EnrolReply,
}

impl World {
    /// Lets `admin` make a teamspace, and a cluster with these services join it.
    pub(crate) async fn teamspace(&self, admin: &Person, name: &str, services: &[&str]) -> Joined {
        let (id, token) = self.waiting_teamspace(admin, name).await;
        let cluster = Cluster::new(self, &format!("uid-of-{name}"));
        let reply = cluster.enrol(self, &token).await.expect("enrolled");
        let agent = cluster.connect(self).await.expect("welcomed");
        agent.reports(services).await;
        self.knows(admin, id, services.len()).await;
        Joined { id, cluster, agent, reply }
    }

    /// Waits until the hub knows this many services of a teamspace.
    pub(crate) async fn knows(&self, admin: &Person, id: TeamspaceId, services: usize) {
        let path = format!("/api/v1/teamspaces/{id}");
        crate::world::eventually("the catalogue", async || {
            let shown = admin.get(self, &path).await.with(200);
            (shown["services"] == services).then_some(())
        })
        .await;
    }

    /// Makes a teamspace and a join token for it.
    pub(crate) async fn waiting_teamspace(
        &self,
        admin: &Person,
        name: &str,
    ) -> (TeamspaceId, String) {
        let made = admin.post(self, "/api/v1/teamspaces", json!({ "name": name })).await.with(201);
        let id: TeamspaceId = made["id"].as_str().expect("an id").parse().expect("an id");
        let path = format!("/api/v1/teamspaces/{id}/join-tokens");
        let token = admin.post(self, &path, json!({})).await.with(201);
        (id, token["token"].as_str().expect("a token").to_owned())
    }
}

impl Person {
    /// Begins a consume and returns what the hub answered.
    pub(crate) async fn consumes(
        &self,
        world: &World,
        teamspace: TeamspaceId,
        patterns: &[&str],
    ) -> crate::people::Answer {
        let body = json!({
            "kind": "consume", "teamspace_id": teamspace, "device_id": self.laptop.id,
            "patterns": patterns,
        });
        self.post(world, "/api/v1/sessions", body).await
    }

    /// Begins an intercept of port 80 and returns what the hub answered.
    pub(crate) async fn intercepts(
        &self,
        world: &World,
        teamspace: TeamspaceId,
        service: &str,
    ) -> crate::people::Answer {
        let body = json!({
            "kind": "intercept", "teamspace_id": teamspace, "device_id": self.laptop.id,
            "service": service, "ports": [{ "service_port": 80, "laptop_port": 3000 }],
        });
        self.post(world, "/api/v1/sessions", body).await
    }
}
