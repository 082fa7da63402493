//! Carriers: from the hub's offer to a connection with the agent whose key this laptop knows.

use std::{sync::Arc, time::Duration};

use fairlead_model::{Phase, SessionId, TeamspaceId};
use fairlead_tunnel::{
    Backoff, HandshakeError, OpenFailed, Opener, PeerExpectation, TlsIdentity,
    connect::{RelayError, dial_relay},
    tls::TlsConfigError,
};
use fairlead_wire::{
    identity::thumbprint_of,
    link::v1::CarrierOffer,
    open::{OpenRequest, Refusal},
    preface::Side,
    ticket::Ticket,
};
use laptop_account::AccountError;
use laptop_ipc::{Failure, FailureKind};
use rustls_pki_types::CertificateDer;
use tokio::{
    net::TcpStream,
    sync::watch,
    time::{interval, sleep},
};
use tracing::{debug, info};

use crate::{keeper::Keeper, link::with_causes};

const OFFER_MAX: Duration = Duration::from_secs(15);
/// The laptop notices a dead carrier sooner than TCP would.
const BEAT_EVERY: Duration = Duration::from_secs(5);
const BEAT_MAX: Duration = Duration::from_secs(3);
/// One answer proves the way; a few services may have no pods.
const PROBES_MAX: usize = 5;

#[derive(Debug, thiserror::Error)]
pub(crate) enum CarrierError {
    #[error("{0}")]
    NotOffered(String),
    #[error("the hub's offer is not readable: {0}")]
    BadOffer(&'static str),
    #[error(transparent)]
    Account(#[from] AccountError),
    #[error(transparent)]
    Tls(#[from] TlsConfigError),
    #[error(transparent)]
    Relay(#[from] RelayError),
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    #[error("the agent does not accept the grant: {0}")]
    Grant(OpenFailed),
    #[error("no stream gets through: {0}")]
    Probe(OpenFailed),
}

impl CarrierError {
    /// Says whether trying again could only repeat it: a person must look at a changed key first.
    const fn is_final(&self) -> bool {
        matches!(self, Self::Account(AccountError::PinChanged(_)))
    }
}

/// Keeps one carrier for a consume, for as long as the session lives.
pub(crate) async fn keep_for_consume(keeper: Arc<Keeper>, id: SessionId) {
    let mut backoff = Backoff::default();
    loop {
        keeper.link.connected().await;
        match open_for_consume(&keeper, id).await {
            Ok(opener) => {
                backoff = Backoff::default();
                watch_over(&keeper, id, &opener).await;
                keeper.observe(id, Phase::Preparing, Some("the carrier was lost".to_owned()));
            }
            Err(error) if error.is_final() => {
                let failure = match error {
                    CarrierError::Account(error) => Failure::from(error),
                    other => Failure::new(FailureKind::HubUntrusted, other.to_string()),
                };
                // In a task of its own, since ending the session ends this one.
                tokio::spawn(refuse(Arc::clone(&keeper), id, failure));
                return;
            }
            Err(error) => keeper.observe(id, Phase::Preparing, Some(with_causes(&error))),
        }
        sleep(backoff.next_delay()).await;
    }
}

async fn refuse(keeper: Arc<Keeper>, id: SessionId, failure: Failure) {
    let detail = failure.message.clone();
    if let Some(session) = keeper.sessions().live_mut(id) {
        session.failure = Some(failure);
    }
    keeper.end_here(id, Phase::Refused, Some(detail)).await;
    if let Ok(hub) = keeper.hub()
        && let Err(error) = hub.end_session(id).await
    {
        debug!("The hub was not told: {error}");
    }
}

async fn open_for_consume(keeper: &Keeper, id: SessionId) -> Result<Opener, CarrierError> {
    let offer =
        keeper.request_carrier(id, "", OFFER_MAX).await.map_err(CarrierError::NotOffered)?;
    let replica = offer.replica.clone();
    let half = dial(keeper, offer).await?;
    let (opener, driver) = Opener::handshake(half.tcp, &half.identity, &half.expectation).await?;
    tokio::spawn(driver);
    let grant = keeper.sessions().live(id).map(|session| session.grant.borrow().clone());
    let grant = grant.ok_or(CarrierError::BadOffer("its session is over"))?;
    opener.present_grant(&grant).await.map_err(CarrierError::Grant)?;
    probe(keeper, id, &opener).await?;
    info!(session = %id, replica, "Carrier is up");
    Ok(opener)
}

/// Sends bytes through the whole path. That a service has no pods is the service's affair; that nothing comes back
/// is ours.
async fn probe(keeper: &Keeper, id: SessionId, opener: &Opener) -> Result<(), CarrierError> {
    let reached = keeper.sessions().view_of(id).map(|view| view.services).unwrap_or_default();
    for reached in reached.into_iter().take(PROBES_MAX) {
        let Some(port) = reached.ports.first() else { continue };
        let wish = OpenRequest { session: id, service: reached.service, port: *port, probe: true };
        match opener.open(&wish).await {
            Ok(stream) => {
                drop(stream);
                break;
            }
            Err(OpenFailed::Refused(refused)) if refused.refusal != Refusal::NotAllowed => {
                debug!(service = %wish.service, "Probe: {refused}");
            }
            Err(error) => return Err(CarrierError::Probe(error)),
        }
    }
    Ok(())
}

/// Offers the carrier to new connections until it is lost.
async fn watch_over(keeper: &Keeper, id: SessionId, opener: &Opener) {
    let Some(mut grant_rx) = publish(keeper, id, opener) else { return };
    keeper.observe(id, Phase::Active, None);
    let mut beat = interval(BEAT_EVERY);
    loop {
        tokio::select! {
            end = opener.closed() => {
                info!(session = %id, "Carrier lost: {end}");
                break;
            }
            _ = beat.tick() => if opener.beat(BEAT_MAX).await.is_err() {
                info!(session = %id, "Carrier does not answer");
                break;
            },
            changed = grant_rx.changed() => {
                if changed.is_err() {
                    break;
                }
                let grant = grant_rx.borrow_and_update().clone();
                if let Err(error) = opener.present_grant(&grant).await {
                    info!(session = %id, "Renewed grant: {error}");
                    break;
                }
            }
        }
    }
    opener.close();
    if let Some(session) = keeper.sessions().live(id) {
        session.openers.send_modify(|openers| openers.retain(|opener| !opener.is_closed()));
    }
}

fn publish(keeper: &Keeper, id: SessionId, opener: &Opener) -> Option<watch::Receiver<String>> {
    let sessions = keeper.sessions();
    let session = sessions.live(id)?;
    session.openers.send_modify(|openers| openers.push(opener.clone()));
    Some(session.grant.subscribe())
}

/// One half of a carrier, paired by the relay, before TLS.
pub(crate) struct Half {
    pub(crate) tcp: TcpStream,
    pub(crate) identity: TlsIdentity,
    pub(crate) expectation: PeerExpectation,
}

/// Dials what the hub offers, towards the teamspace whose key is known.
pub(crate) async fn dial(keeper: &Keeper, offer: CarrierOffer) -> Result<Half, CarrierError> {
    let ticket = Ticket::from_slice(&offer.ticket).ok_or(CarrierError::BadOffer("its ticket"))?;
    let teamspace: TeamspaceId =
        offer.teamspace_id.parse().map_err(|_| CarrierError::BadOffer("its teamspace"))?;
    let certificate = CertificateDer::from(offer.teamspace_certificate);
    let presented = thumbprint_of(&certificate)
        .map_err(|_| CarrierError::BadOffer("the teamspace's certificate"))?;
    let account = keeper.accounts.current()?;
    account.pins().check(teamspace, &teamspace_name(keeper, teamspace), presented)?;
    let expectation = PeerExpectation::replica(certificate, &presented)?;
    let device = laptop_account::Hub::new(account)?.device().await?;
    let identity = TlsIdentity::new(vec![device.certificate], &device.key)?;
    let tcp = dial_relay(&offer.relay, &ticket, Side::Laptop).await?;
    Ok(Half { tcp, identity, expectation })
}

fn teamspace_name(keeper: &Keeper, id: TeamspaceId) -> String {
    let sessions = keeper.sessions();
    let known = sessions.all_live().map(|session| &session.desired.teamspace);
    known.into_iter().find(|t| t.id == id).map_or_else(|| id.to_string(), |t| t.name.clone())
}
