//! Frames on a carrier: the other end has proven who it is, and then says anything at all.

use std::{
    sync::{Arc, LazyLock},
    time::{Duration, SystemTime},
};

use fairlead_model::{DeviceId, OrgId, UserId};
use fairlead_tunnel::{Acceptor, Incoming, PeerExpectation, TlsIdentity, tls};
use fairlead_wire::{
    authority::{DeviceRequest, OrganizationAuthority, TeamspaceAuthority},
    identity::DeviceName,
    key::Key,
    open::Refusal,
};
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, copy, sink},
    runtime::{Builder, Runtime},
    time::timeout,
};
use tokio_rustls::TlsConnector;

/// How HTTP/2 begins, with empty settings; without it hardly any bytes get further.
const BEGINNING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// Far above what the bytes of one run take: only what stands still is stopped by it.
const PATIENCE: Duration = Duration::from_secs(20);
const PIPE_BYTES: usize = 64 << 10;

/// Whatever a laptop says after it has proven itself, the agent's end of the carrier comes to an end with it.
pub fn frames(bytes: &[u8]) {
    let both = async {
        let (near, far) = tokio::io::duplex(PIPE_BYTES);
        tokio::join!(laptop(near, bytes), agent(far));
    };
    let ended = RUNTIME.block_on(async { timeout(PATIENCE, both).await });
    assert!(ended.is_ok(), "the carrier stands still");
}

/// Says the bytes and closes, and reads whatever comes.
async fn laptop(io: DuplexStream, bytes: &[u8]) {
    let name = PAIR.sees_agent.server_name();
    let connecting = TlsConnector::from(Arc::clone(&PAIR.laptop)).connect(name, io);
    let carrier = connecting.await.expect("both ends know each other");
    let (mut from, mut to) = tokio::io::split(carrier);
    let says = async {
        // The other end may be done with us before we are.
        let said = async {
            to.write_all(BEGINNING).await?;
            to.write_all(bytes).await?;
            to.shutdown().await
        };
        drop(said.await);
    };
    let reads = async { drop(copy(&mut (&mut from).take(u64::MAX), &mut sink()).await) };
    tokio::join!(says, reads);
}

/// Takes streams as the agent does: reads grants, and refuses every other stream or reads it to its end.
async fn agent(io: DuplexStream) {
    let begun = Acceptor::handshake(io, &PAIR.agent, &PAIR.sees_laptop).await;
    let Ok((mut acceptor, driver)) = begun else { return };
    let driver = tokio::spawn(driver);
    let mut taken = 0_u32;
    while let Some(incoming) = acceptor.next().await {
        taken += 1;
        match incoming {
            Incoming::Grant(mut grant) => match grant.jwt().await {
                Ok(_) => grant.refuse("not today"),
                Err(_) => drop(grant),
            },
            Incoming::Open(stream) if taken.is_multiple_of(2) => {
                stream.refuse(Refusal::NotFound, "no such service");
            }
            Incoming::Open(stream) => drop(stream.accept()),
            Incoming::Resolve(asked) if taken.is_multiple_of(2) => {
                asked.refuse(Refusal::NotFound, "no such name");
            }
            Incoming::Resolve(asked) => asked.answer(vec![0; 12]),
        }
    }
    driver.await.expect("the driver does not panic");
}

struct Pair {
    laptop: Arc<ClientConfig>,
    agent: TlsIdentity,
    sees_laptop: PeerExpectation,
    sees_agent: PeerExpectation,
}

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().enable_all().build().expect("a runtime"));

static PAIR: LazyLock<Pair> = LazyLock::new(|| {
    let now = SystemTime::now();
    let organization = OrgId::generate();
    let authority = OrganizationAuthority::create(organization, key(), now).expect("made");
    let laptop_key = key();
    let request = DeviceRequest::make_pem(&laptop_key).expect("made");
    let request = DeviceRequest::parse_pem(&request).expect("readable");
    let name = DeviceName { organization, user: UserId::generate(), device: DeviceId::generate() };
    let device = authority.sign_device(&request, name, now).expect("signed").certificate;
    let teamspace = TeamspaceAuthority::create(key(), now).expect("made");
    let replica_key = key();
    let replica = teamspace.sign_replica(&replica_key, "agent-1", now).expect("signed");
    let chain = vec![replica, teamspace.certificate().clone()];

    let mut roots = RootCertStore::empty();
    roots.add(teamspace.certificate().clone()).expect("an authority");
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut laptop = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![device], laptop_key.expose_to_tls())
        .expect("its key");
    laptop.alpn_protocols = vec![tls::ALPN.to_vec()];
    Pair {
        laptop: Arc::new(laptop),
        agent: TlsIdentity::new(chain, &replica_key).expect("an identity"),
        sees_laptop: PeerExpectation::device(
            authority.certificate().clone(),
            laptop_key.thumbprint(),
        ),
        sees_agent: PeerExpectation::replica(
            teamspace.certificate().clone(),
            &teamspace.thumbprint(),
        )
        .expect("its own key"),
    }
});

fn key() -> Key {
    Key::generate().expect("a key")
}
