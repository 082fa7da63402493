//! A consume for tests: a laptop that opens streams on one carrier, and the cluster that it means.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, SystemTime},
};

use fairlead_model::{
    GrantId, OrgId, Port, ServicePort, SessionId, SessionKind, TeamspaceId, UserId,
};
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
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, UdpSocket},
    sync::watch,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::Consume;
use crate::{
    enrol::Enrolled,
    grants::Grants,
    made_up, names,
    outside::Border,
    pair::{Met, Pair},
    report::FirstUses,
    resolve::Resolver,
    seen::ServiceSeen,
    wanted::Wanted,
    watch::Inventory,
};

/// A laptop at one end of a carrier, an agent with two Services at the other.
pub(super) struct World {
    pub(super) opener: Opener,
    pub(super) signer: GrantSigner,
    /// For `shop/cart` at its one port.
    pub(super) grant: Grant,
    pub(super) port: Port,
    pub(super) wanted: watch::Sender<Option<Arc<Wanted>>>,
    pub(super) leaving: CancellationToken,
}

pub(super) async fn world() -> World {
    world_with(&[]).await
}

/// With these Services, if they are named, instead of the two; each has one ready pod.
pub(super) async fn world_with(instead: &[ServiceSeen]) -> World {
    let pair = Pair::new();
    let (session, device) = (SessionId::generate(), pair.device);
    let (grant_key, teamspace) = (Key::generate().unwrap(), TeamspaceId::generate());
    let enrolled = Enrolled {
        authority: TeamspaceAuthority::create(Key::generate().unwrap(), SystemTime::now()).unwrap(),
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
    World { opener, signer: GrantSigner::new(&grant_key), grant, port, wanted: wanted_tx, leaving }
}

impl World {
    pub(super) async fn shows(&self, grant: &Grant) -> Result<(), OpenFailed> {
        self.opener.present_grant(&self.signer.sign(grant)).await
    }

    /// Waits for the end of the carrier.
    pub(super) async fn is_over(&self) {
        timeout(Duration::from_secs(10), self.opener.closed()).await.expect("the carrier ends");
    }

    pub(super) async fn asks(&self, service: &str, port: Port) -> Result<String, OpenFailed> {
        self.asks_in(self.grant.session, service, port).await
    }

    pub(super) async fn asks_in(
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
