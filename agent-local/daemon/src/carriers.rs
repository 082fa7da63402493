//! Carriers: from the hub's offer to a connection with the agent whose key this laptop knows.

use std::sync::Arc;

use fairlead_model::{CarrierPath, SessionId, TeamspaceId, Thumbprint};
use fairlead_tunnel::{
    HandshakeError, OpenFailed, PeerExpectation, TlsIdentity,
    connect::{self, HubError, RelayError, TrustError},
    connection::Connection,
    tls::TlsConfigError,
};
use fairlead_wire::{
    identity::thumbprint_of,
    link::v1::CarrierOffer,
    open::{Refusal, Refused},
    preface::Side,
    ticket::Ticket,
};
use laptop_account::{AccountError, Pins};
use laptop_ipc::{Failure, FailureKind, daemon::Teamspace};
use rustls_pki_types::CertificateDer;

use crate::{keeper::Keeper, link::with_causes, offers::NoOffer};

/// What the agent refuses once, it may have refused because it did not know the session yet.
const REFUSALS_MAX: usize = 3;

#[derive(Debug, thiserror::Error)]
pub(crate) enum CarrierError {
    #[error(transparent)]
    NotOffered(#[from] NoOffer),
    #[error("the hub's offer is not readable: {0}")]
    BadOffer(&'static str),
    #[error(
        "the hub offers a carrier to teamspace {offered} for a session of teamspace `{name}` ({ours}); \
         refusing to connect"
    )]
    OtherTeamspace { name: String, ours: TeamspaceId, offered: TeamspaceId },
    #[error(transparent)]
    Account(#[from] AccountError),
    #[error(transparent)]
    Tls(#[from] TlsConfigError),
    #[error(transparent)]
    Trust(#[from] TrustError),
    #[error(transparent)]
    Hub(#[from] HubError),
    #[error(transparent)]
    Relay(#[from] RelayError),
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    #[error("the agent does not accept the grant: {0}")]
    Grant(OpenFailed),
}

impl CarrierError {
    /// Returns after how many tries in a row it is the last word; `None` where another try may succeed.
    pub(crate) const fn tries(&self) -> Option<usize> {
        match self {
            // A person must look at it first.
            Self::Account(AccountError::PinChanged(_)) | Self::OtherTeamspace { .. } => Some(1),
            Self::Handshake(HandshakeError::NotTrusted(_)) => Some(REFUSALS_MAX),
            // A clock that is wrong is set right again.
            Self::Grant(OpenFailed::Refused(Refused { refusal: Refusal::NotAllowed, .. })) => {
                Some(REFUSALS_MAX)
            }
            _ => None,
        }
    }

    /// Says it as the last word.
    pub(crate) fn into_failure(self) -> Failure {
        match self {
            Self::Account(error) => error.into(),
            Self::Grant(_) => Failure::new(FailureKind::Denied, self.to_string())
                .hint("ask for it again; if it stays, the log of the cluster's agent says more"),
            _ => Failure::new(FailureKind::HubUntrusted, with_causes(&self)).hint(
                "ask who operates the hub and the cluster: what answers there is not the cluster it should be",
            ),
        }
    }
}

/// Ends the session with the reason. In a task of its own, since ending the session ends the one that keeps its carrier.
pub(crate) fn give_up(keeper: Arc<Keeper>, id: SessionId, error: CarrierError) {
    tokio::spawn(async move { keeper.refuse(id, error.into_failure()).await });
}

/// One half of a carrier, paired by the relay, before TLS.
pub(crate) struct Half {
    pub(crate) io: Connection,
    pub(crate) path: CarrierPath,
    pub(crate) identity: TlsIdentity,
    pub(crate) expectation: PeerExpectation,
}

/// Dials what the hub offers for a session, towards the teamspace whose key is known.
pub(crate) async fn dial(
    keeper: &Keeper,
    id: SessionId,
    offer: CarrierOffer,
) -> Result<Half, CarrierError> {
    let ticket = Ticket::from_slice(&offer.ticket).ok_or(CarrierError::BadOffer("its ticket"))?;
    let teamspace = keeper.sessions().live(id).map(|session| session.desired.teamspace.clone());
    let teamspace = teamspace.ok_or(CarrierError::BadOffer("its session is over"))?;
    let account = keeper.accounts.current()?;
    let (certificate, key) = trusted(&account.pins(), &teamspace, &offer)?;
    let expectation = PeerExpectation::replica(certificate, &key)?;
    let ways = keeper.ways.towards(&account)?;
    let device = laptop_account::Hub::new(account)?.device().await?;
    let identity = TlsIdentity::new(vec![device.certificate], &device.key)?;
    let connect::Half { io, path } = ways.dial(&offer.relay, &ticket, Side::Laptop).await?;
    Ok(Half { io, path, identity, expectation })
}

/// Returns the teamspace's certificate as offered, if its key is the one that is pinned.
///
/// The pin is looked up by what the session is about, never by what the offer says: under an id made up for the
/// occasion, every key would be seen for the first time.
fn trusted(
    pins: &Pins,
    teamspace: &Teamspace,
    offer: &CarrierOffer,
) -> Result<(CertificateDer<'static>, Thumbprint), CarrierError> {
    let offered: TeamspaceId =
        offer.teamspace_id.parse().map_err(|_| CarrierError::BadOffer("its teamspace"))?;
    if offered != teamspace.id {
        let (name, ours) = (teamspace.name.clone(), teamspace.id);
        return Err(CarrierError::OtherTeamspace { name, ours, offered });
    }
    let certificate = CertificateDer::from(offer.teamspace_certificate.clone());
    let presented = thumbprint_of(&certificate)
        .map_err(|_| CarrierError::BadOffer("the teamspace's certificate"))?;
    pins.check(teamspace.id, &teamspace.name, presented)?;
    Ok((certificate, presented))
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use fairlead_wire::{authority::TeamspaceAuthority, key::Key};
    use laptop_account::Accounts;

    use super::*;

    fn offer(teamspace: TeamspaceId, authority: &TeamspaceAuthority) -> CarrierOffer {
        CarrierOffer {
            teamspace_id: teamspace.to_string(),
            teamspace_certificate: authority.certificate().to_vec(),
            ..CarrierOffer::default()
        }
    }

    fn authority() -> TeamspaceAuthority {
        let key = Key::generate().expect("made");
        TeamspaceAuthority::create(key, SystemTime::now()).expect("made")
    }

    #[test]
    fn an_impostor_is_refused_under_the_right_id_and_under_one_made_up_for_it() {
        let folder = tempfile::tempdir().expect("folder");
        let accounts = Accounts::new(folder.path().to_owned());
        let pins = accounts.at(&"https://hub.example.com".parse().expect("valid")).pins();
        let teamspace = Teamspace { id: TeamspaceId::generate(), name: "staging".to_owned() };
        let (real, impostor) = (authority(), authority());
        trusted(&pins, &teamspace, &offer(teamspace.id, &real)).expect("first sight");
        trusted(&pins, &teamspace, &offer(teamspace.id, &real)).expect("known");

        let same_id = trusted(&pins, &teamspace, &offer(teamspace.id, &impostor));
        let error = same_id.expect_err("another key");
        assert!(matches!(error, CarrierError::Account(AccountError::PinChanged(_))), "{error}");

        let made_up = TeamspaceId::generate();
        let error = trusted(&pins, &teamspace, &offer(made_up, &impostor)).expect_err("another id");
        assert!(matches!(error, CarrierError::OtherTeamspace { .. }), "{error}");
        assert_eq!(error.tries(), Some(1), "nothing gets better by asking again");
        assert_eq!(error.into_failure().kind, FailureKind::HubUntrusted);
        assert_eq!(pins.of(made_up).expect("read"), None, "nothing was pinned");
    }
}
