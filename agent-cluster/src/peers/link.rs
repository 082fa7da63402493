//! The connection between two replicas: mutual TLS with certificates of the teamspace key, one direction each, and on
//! it the sender's whole state as length-prefixed JSON.

use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use fairlead_model::timers;
use fairlead_wire::{
    chain::verifier_for,
    identity::{REPLICA_DNS_NAME, ReplicaIdentity},
};
use rustls::{ClientConfig, RootCertStore, ServerConfig, crypto::aws_lc_rs, version::TLS13};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tracing::debug;

use super::PeerState;
use crate::{enrol::ReplicaKey, listen::serve_each};

/// A state longer than this is no state of ours.
const STATE_MAX_BYTES: usize = 1 << 20;
const CONNECT: Duration = Duration::from_secs(1);
/// Replicas that speak at once, those of a rollout and connections about to end included; strangers fail at TLS.
const SPEAKERS_MAX: usize = 64;
/// The first tries follow quickly, so that a refused address is known to be refused.
const RETRIES: [Duration; 4] = [
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(100),
    Duration::from_millis(500),
];

/// What the connections report; bounded by the number of replicas, the reader always drains it.
#[derive(Debug)]
pub(crate) enum News {
    Heard {
        replica: String,
        /// When it arrived, however long it then waited to be read here.
        at: Instant,
        state: Box<PeerState>,
    },
    /// Our own connection to a replica was made, or refused by its address.
    Reached {
        replica: String,
    },
    Refused {
        replica: String,
    },
    /// It broke, or could not be made for another reason.
    Lost {
        replica: String,
    },
}

/// Keeps saying `state` to one replica until the task is aborted.
pub(crate) async fn tell(
    replica: String,
    address: SocketAddr,
    identity: watch::Receiver<Arc<ReplicaKey>>,
    state: watch::Receiver<PeerState>,
    news: mpsc::Sender<News>,
) {
    let mut failures = 0;
    loop {
        let ended = match reach(address, &identity).await {
            Ok(mut stream) => {
                failures = 0;
                if news.send(News::Reached { replica: replica.clone() }).await.is_err() {
                    return;
                }
                if let Err(error) = keep_saying(&mut stream, state.clone()).await {
                    debug!(%replica, %error, "The connection to a replica broke");
                }
                News::Lost { replica: replica.clone() }
            }
            Err(error) => {
                debug!(%replica, %error, "A replica cannot be reached");
                match error.kind() {
                    io::ErrorKind::ConnectionRefused => News::Refused { replica: replica.clone() },
                    _ => News::Lost { replica: replica.clone() },
                }
            }
        };
        if news.send(ended).await.is_err() {
            return;
        }
        let pause = RETRIES.get(failures).copied().unwrap_or(timers::INTERCEPT_BEAT);
        failures += 1;
        tokio::time::sleep(pause).await;
    }
}

async fn reach(
    address: SocketAddr,
    identity: &watch::Receiver<Arc<ReplicaKey>>,
) -> io::Result<impl AsyncWrite + AsyncRead + Unpin + use<>> {
    let tcp = timeout(CONNECT, TcpStream::connect(address)).await??;
    tcp.set_nodelay(true)?;
    let config = dialling(&identity.borrow()).map_err(io::Error::other)?;
    let name = REPLICA_DNS_NAME.try_into().expect("a constant DNS name");
    timeout(CONNECT, TlsConnector::from(Arc::new(config)).connect(name, tcp)).await?
}

/// The receiver never answers; reading notices at once when it goes.
async fn keep_saying(
    stream: &mut (impl AsyncWrite + AsyncRead + Unpin),
    mut state: watch::Receiver<PeerState>,
) -> io::Result<()> {
    let (mut from, mut to) = tokio::io::split(stream);
    let mut nothing = [0; 1];
    loop {
        let body = serde_json::to_vec(&*state.borrow_and_update()).map_err(io::Error::other)?;
        let length = u32::try_from(body.len()).map_err(io::Error::other)?;
        let said = async {
            to.write_all(&length.to_be_bytes()).await?;
            to.write_all(&body).await?;
            to.flush().await
        };
        timeout(super::SILENT, said).await??;
        tokio::select! {
            _ = from.read(&mut nothing) => return Err(io::ErrorKind::ConnectionReset.into()),
            changed = state.changed() => changed.map_err(io::Error::other)?,
            () = tokio::time::sleep(timers::INTERCEPT_BEAT) => {}
        }
    }
}

/// Hears the other replicas until the task is aborted.
pub(crate) async fn hear(
    listener: TcpListener,
    identity: watch::Receiver<Arc<ReplicaKey>>,
    news: mpsc::Sender<News>,
) {
    serve_each(listener, SPEAKERS_MAX, move |tcp, peer| {
        let (identity, news) = (identity.clone(), news.clone());
        async move {
            if let Err(error) = listen_to(tcp, &identity, &news).await {
                debug!(%peer, %error, "A replica is heard no more");
            }
        }
    })
    .await;
}

async fn listen_to(
    tcp: TcpStream,
    identity: &watch::Receiver<Arc<ReplicaKey>>,
    news: &mpsc::Sender<News>,
) -> io::Result<()> {
    let config = answering(&identity.borrow()).map_err(io::Error::other)?;
    let mut stream = timeout(CONNECT, TlsAcceptor::from(Arc::new(config)).accept(tcp)).await??;
    let leaf = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first()).cloned();
    let leaf = leaf.ok_or(io::ErrorKind::PermissionDenied)?;
    let replica = ReplicaIdentity::of(&leaf).map_err(io::Error::other)?.name;
    loop {
        let state = timeout(super::SILENT, read_state(&mut stream)).await??;
        let (replica, at) = (replica.clone(), Instant::now());
        let heard = News::Heard { replica, at, state: Box::new(state) };
        if news.send(heard).await.is_err() {
            return Ok(());
        }
    }
}

async fn read_state(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<PeerState> {
    let length = stream.read_u32().await? as usize;
    if length > STATE_MAX_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a state of more than 1 MiB"));
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    serde_json::from_slice(&body).map_err(io::Error::other)
}

fn private_key(replica: &ReplicaKey) -> PrivateKeyDer<'static> {
    PrivatePkcs8KeyDer::from(replica.key.expose_pkcs8_der().to_vec()).into()
}

fn dialling(replica: &ReplicaKey) -> Result<ClientConfig, rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(replica.teamspace_certificate().clone())?;
    ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(replica.chain.clone(), private_key(replica))
}

fn answering(replica: &ReplicaKey) -> Result<ServerConfig, rustls::Error> {
    ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier_for(replica.teamspace_certificate())?)
        .with_single_cert(replica.chain.clone(), private_key(replica))
}
