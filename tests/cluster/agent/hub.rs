//! A hub with no database and no people: it enrols whoever comes, wants what the test wants, and pairs carriers with
//! the real relay. Runs on the hub host of the lab, in a thread of this process.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::{Duration, SystemTime},
};

use anyhow::Context;
use fairlead_lab::{Host, Lab};
use fairlead_model::{CarrierId, OrgId, SessionId, TeamspaceId, Thumbprint};
use fairlead_wire::{
    authority::OrganizationAuthority,
    chain::verified_replica,
    challenge,
    identity::thumbprint_of,
    key::Key,
    link::v1::{
        self, CarrierOffer, Challenge, ClusterDown, ClusterUp, ClusterWelcome, EnrolReply,
        EnrolRequest, Heartbeat,
        cluster_down::Message as Down,
        cluster_links_server::{ClusterLinks, ClusterLinksServer},
        cluster_up::Message as Up,
    },
};
use hub_relay::{CarrierMeta, Limits, Relay};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
};
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

pub(crate) const NAME: &str = "hub.fairlead.test";
const RELAY: &str = "172.30.0.2:8444";
pub(crate) const TOKEN: &str = "flj_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Phase and detail by session, as the agents report them.
pub(crate) type Phases = BTreeMap<SessionId, (v1::Phase, String)>;

/// What the thread and the test share.
pub(crate) struct Shared {
    pub(crate) organization: OrganizationAuthority,
    pub(crate) grant_key: Key,
    pub(crate) org: OrgId,
    pub(crate) teamspace: TeamspaceId,
    relay: Relay,
    state: Mutex<State>,
    pub(crate) phases: watch::Sender<Phases>,
    pub(crate) catalogue: watch::Sender<BTreeMap<String, v1::CatalogueService>>,
    /// The laptop's halves of carriers.
    laptop_tx: Mutex<Option<mpsc::UnboundedSender<CarrierOffer>>>,
}

#[derive(Default)]
struct State {
    teamspace_certificate: Option<CertificateDer<'static>>,
    replicas: BTreeMap<String, mpsc::Sender<Result<ClusterDown, Status>>>,
    wanted: BTreeMap<SessionId, v1::WantedSession>,
}

pub(crate) struct TestHub {
    pub(crate) shared: Arc<Shared>,
    pub(crate) ca: PathBuf,
    end: CancellationToken,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
}

impl TestHub {
    pub(crate) fn start(lab: &Lab) -> anyhow::Result<Self> {
        let (org, now) = (OrgId::generate(), SystemTime::now());
        let shared = Arc::new(Shared {
            organization: OrganizationAuthority::create(org, Key::generate()?, now)?,
            grant_key: Key::generate()?,
            org,
            teamspace: TeamspaceId::generate(),
            relay: Relay::new(Limits::default()),
            state: Mutex::default(),
            phases: watch::Sender::default(),
            catalogue: watch::Sender::default(),
            laptop_tx: Mutex::default(),
        });
        let certificate = rcgen::generate_simple_self_signed(vec![NAME.to_owned()])?;
        let ca = lab.folder().join("test-hub-ca.pem");
        std::fs::write(&ca, certificate.cert.pem())?;
        let key = PrivatePkcs8KeyDer::from(certificate.signing_key.serialize_der());
        let mut config = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.cert.der().clone()], key.into())?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        let end = CancellationToken::new();
        let (served, ended) = (Arc::clone(&shared), end.clone());
        let thread = lab.on(Host::Hub, move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                tokio::select! {
                    served = serve(served, config) => served,
                    () = ended.cancelled() => Ok(()),
                }
            })
        })?;
        Ok(Self { shared, ca, end, thread: Some(thread) })
    }

    /// Wants an intercept, and offers its carriers to every replica that is there or comes later.
    pub(crate) fn intercept(
        &self,
        intercept: Intercept,
        device: Thumbprint,
    ) -> anyhow::Result<SessionId> {
        let session = SessionId::generate();
        let (namespace, name) = intercept.service.split_once('/').context("namespace/name")?;
        let wanted = v1::WantedSession {
            session_id: session.to_string(),
            kind: v1::SessionKind::Intercept.into(),
            device_thumbprint: device.as_bytes().to_vec(),
            user_email: "ada@example.test".to_owned(),
            service: Some(v1::ServiceRef { namespace: namespace.into(), name: name.into() }),
            ports: vec![v1::InterceptPort {
                service_port: intercept.service_port.into(),
                laptop_port: intercept.laptop_port.into(),
            }],
            grace_s: intercept.grace_s,
        };
        self.shared.want(session, wanted);
        Ok(session)
    }

    pub(crate) fn end(&self, session: SessionId) {
        let mut state = self.shared.state.lock().expect("no panic holds it");
        state.wanted.remove(&session);
        state.tell_wanted();
    }

    pub(crate) fn end_all(&self) {
        let mut state = self.shared.state.lock().expect("no panic holds it");
        state.wanted.clear();
        state.tell_wanted();
    }

    /// Offers the carriers of a session again, as the hub does when a laptop comes back.
    pub(crate) fn offer_again(&self, session: SessionId) {
        self.shared.offer_to_all(session);
    }

    pub(crate) fn replicas(&self) -> usize {
        self.shared.state.lock().expect("no panic holds it").replicas.len()
    }

    /// Where the laptop hears of its carriers.
    pub(crate) fn laptop_offers(&self) -> mpsc::UnboundedReceiver<CarrierOffer> {
        let (offer_tx, offer_rx) = mpsc::unbounded_channel();
        *self.shared.laptop_tx.lock().expect("no panic holds it") = Some(offer_tx);
        offer_rx
    }

    pub(crate) fn phase(&self, session: SessionId) -> Option<(v1::Phase, String)> {
        self.shared.phases.borrow().get(&session).cloned()
    }
}

impl Drop for TestHub {
    fn drop(&mut self) {
        self.end.cancel();
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

/// What is to be intercepted, and where it goes.
#[derive(Clone, Debug)]
pub(crate) struct Intercept {
    pub(crate) service: &'static str,
    pub(crate) service_port: u16,
    pub(crate) laptop_port: u16,
    pub(crate) grace_s: u32,
}

impl State {
    fn tell_wanted(&mut self) {
        for replica in self.replicas.values() {
            let _gone = replica.try_send(Ok(self.wanted_message()));
        }
    }

    fn wanted_message(&self) -> ClusterDown {
        let sessions = self.wanted.values().cloned().collect();
        ClusterDown { message: Some(Down::Wanted(v1::Wanted { sessions })) }
    }
}

impl Shared {
    fn want(&self, session: SessionId, wanted: v1::WantedSession) {
        let mut state = self.state.lock().expect("no panic holds it");
        state.wanted.insert(session, wanted);
        state.tell_wanted();
        drop(state);
        self.offer_to_all(session);
    }

    fn offer_to_all(&self, session: SessionId) {
        let state = self.state.lock().expect("no panic holds it");
        for (name, replica) in &state.replicas {
            self.offer(&state, session, name, replica);
        }
    }

    fn offer(
        &self,
        state: &State,
        session: SessionId,
        replica: &str,
        down_tx: &mpsc::Sender<Result<ClusterDown, Status>>,
    ) {
        let Some(wanted) = state.wanted.get(&session) else { return };
        let carrier = CarrierId::generate();
        let meta = CarrierMeta { carrier, session, organization: self.org };
        let offer = self.relay.offer(meta).expect("the relay has room");
        let to_cluster = CarrierOffer {
            carrier_id: carrier.to_string(),
            session_id: session.to_string(),
            kind: wanted.kind,
            ticket: offer.cluster.expose().to_vec(),
            relay: RELAY.to_owned(),
            replica: replica.to_owned(),
            device_thumbprint: wanted.device_thumbprint.clone(),
            teamspace_id: self.teamspace.to_string(),
            ..CarrierOffer::default()
        };
        let to_laptop = CarrierOffer {
            ticket: offer.laptop.expose().to_vec(),
            teamspace_certificate: state
                .teamspace_certificate
                .as_ref()
                .map(|c| c.to_vec())
                .unwrap_or_default(),
            device_thumbprint: Vec::new(),
            ..to_cluster.clone()
        };
        let _gone = down_tx.try_send(Ok(ClusterDown { message: Some(Down::Carrier(to_cluster)) }));
        if let Some(laptop) = &*self.laptop_tx.lock().expect("no panic holds it") {
            let _gone = laptop.send(to_laptop);
        }
    }

    fn heard(&self, message: Up) {
        match message {
            Up::Observed(observed) => {
                let Ok(session) = observed.session_id.parse() else { return };
                let phase = (observed.phase(), observed.detail);
                self.phases.send_modify(|phases| {
                    phases.insert(session, phase);
                });
            }
            Up::Catalogue(news) => self.catalogue.send_modify(|catalogue| {
                if news.full {
                    catalogue.clear();
                }
                let name = |s: &v1::ServiceRef| format!("{}/{}", s.namespace, s.name);
                for service in news.changed {
                    let key = service.service.as_ref().map(name).unwrap_or_default();
                    catalogue.insert(key, service);
                }
                catalogue.retain(|key, _| !news.deleted.iter().any(|gone| name(gone) == *key));
            }),
            _ => {}
        }
    }
}

async fn serve(shared: Arc<Shared>, config: rustls::ServerConfig) -> anyhow::Result<()> {
    let relay = TcpListener::bind("0.0.0.0:8444").await?;
    let relaying = shared.relay.clone();
    tokio::spawn(async move { relaying.serve(relay).await });
    let listener = TcpListener::bind("0.0.0.0:8443").await?;
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let (tls_tx, tls_rx) = mpsc::channel(16);
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let (acceptor, tls_tx) = (acceptor.clone(), tls_tx.clone());
            tokio::spawn(async move {
                if let Ok(tls) = acceptor.accept(tcp).await {
                    let _ended = tls_tx.send(Ok::<_, std::io::Error>(tls)).await;
                }
            });
        }
    });
    tonic::transport::Server::builder()
        .add_service(ClusterLinksServer::new(Links(shared)))
        .serve_with_incoming(ReceiverStream::new(tls_rx))
        .await?;
    Ok(())
}

struct Links(Arc<Shared>);

#[tonic::async_trait]
impl ClusterLinks for Links {
    type OpenStream = ReceiverStream<Result<ClusterDown, Status>>;

    async fn enrol(&self, request: Request<EnrolRequest>) -> Result<Response<EnrolReply>, Status> {
        let request = request.into_inner();
        if request.join_token != TOKEN {
            return Err(Status::unauthenticated("this join token was never made"));
        }
        let mut state = self.0.state.lock().expect("no panic holds it");
        state.teamspace_certificate = Some(request.teamspace_certificate.into());
        Ok(Response::new(EnrolReply {
            organization_id: self.0.org.to_string(),
            teamspace_id: self.0.teamspace.to_string(),
            teamspace_name: "lab".to_owned(),
            organization_certificate: self.0.organization.certificate().to_vec(),
            grant_key: self.0.grant_key.public().to_vec(),
        }))
    }

    async fn open(
        &self,
        request: Request<Streaming<ClusterUp>>,
    ) -> Result<Response<Self::OpenStream>, Status> {
        let (down_tx, down_rx) = mpsc::channel(256);
        let shared = Arc::clone(&self.0);
        tokio::spawn(async move {
            if let Err(status) = follow(&shared, request.into_inner(), &down_tx).await {
                let _gone = down_tx.send(Err(status)).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(down_rx)))
    }
}

async fn follow(
    shared: &Shared,
    mut up: Streaming<ClusterUp>,
    down_tx: &mpsc::Sender<Result<ClusterDown, Status>>,
) -> Result<(), Status> {
    let say = |message| {
        let said = down_tx.try_send(Ok(ClusterDown { message: Some(message) }));
        said.map_err(|_| Status::resource_exhausted("the agent does not read"))
    };
    let nonce = challenge::draw_nonce();
    say(Down::Challenge(Challenge { nonce: nonce.to_vec() }))?;
    let Some(ClusterUp { message: Some(Up::Hello(hello)) }) = up.message().await? else {
        return Err(Status::invalid_argument("a link begins with Hello"));
    };
    let chain: Vec<CertificateDer<'_>> =
        hello.certificate_chain.into_iter().map(Into::into).collect();
    let teamspace = shared.state.lock().expect("no panic holds it").teamspace_certificate.clone();
    let teamspace = teamspace.ok_or_else(|| Status::unauthenticated("nobody is enrolled"))?;
    let replica = verified_replica(&chain, &teamspace, SystemTime::now())
        .map_err(|error| Status::unauthenticated(error.to_string()))?;
    challenge::verify(&chain[0], &nonce, NAME, &hello.signature)
        .map_err(|error| Status::unauthenticated(error.to_string()))?;
    thumbprint_of(&chain[0]).map_err(|error| Status::unauthenticated(error.to_string()))?;
    say(Down::Welcome(ClusterWelcome::default()))?;
    {
        let mut state = shared.state.lock().expect("no panic holds it");
        state.replicas.insert(replica.name.clone(), down_tx.clone());
        let _full = down_tx.try_send(Ok(state.wanted_message()));
        let sessions: Vec<_> = state.wanted.keys().copied().collect();
        for session in sessions {
            shared.offer(&state, session, &replica.name, down_tx);
        }
    }
    let mut beat = tokio::time::interval(Duration::from_secs(5));
    loop {
        tokio::select! {
            message = up.next() => match message {
                Some(Ok(ClusterUp { message: Some(message) })) => shared.heard(message),
                Some(Ok(ClusterUp { message: None })) => {}
                Some(Err(_)) | None => break,
            },
            _ = beat.tick() => say(Down::Heartbeat(Heartbeat {}))?,
        }
    }
    let mut state = shared.state.lock().expect("no panic holds it");
    if state.replicas.get(&replica.name).is_some_and(|known| known.same_channel(down_tx)) {
        state.replicas.remove(&replica.name);
    }
    Ok(())
}
