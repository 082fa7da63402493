//! Carriers: the hub offers one, this replica dials the relay, and both ends prove who they are. What travels on it
//! belongs to `consume.rs` or to `intercept`; here it is only made, and cut when its session is revoked.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use anyhow::{Context, bail};
use fairlead_model::{SessionId, SessionKind, Thumbprint};
use fairlead_tunnel::{
    Acceptor, Opener, PeerExpectation,
    connect::{Connector, dial_relay},
};
use fairlead_wire::{link::v1::CarrierOffer, preface::Side, ticket::Ticket, words};
use rustls_pki_types::CertificateDer;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{
    consume::Consume, enrol::ReplicaKey, grants::Grants, intercept::holds::Holds, link::Asked,
    report::FirstUses, watch::Inventory,
};

/// Makes and cuts carriers; wired up in `assemble.rs`.
#[derive(Clone)]
pub(crate) struct Carriers {
    pub(crate) identity: watch::Receiver<Arc<ReplicaKey>>,
    pub(crate) organization_certificate: CertificateDer<'static>,
    pub(crate) grants: Grants,
    pub(crate) holds: Holds,
    pub(crate) inventory: watch::Receiver<Inventory>,
    pub(crate) first_uses: FirstUses,
    pub(crate) cuts: Cuts,
    pub(crate) connector: Connector,
}

/// What ends everything of a session; forgotten when nothing of it is left.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cuts(Arc<Mutex<BTreeMap<SessionId, Weak<CancellationToken>>>>);

impl Cuts {
    /// Returns the token of `session`; whoever carries something of it keeps the token as long.
    fn of(&self, session: SessionId) -> Arc<CancellationToken> {
        let mut cuts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        cuts.retain(|_, cut| cut.strong_count() > 0);
        let known = cuts.get(&session).and_then(Weak::upgrade);
        known.filter(|cut| !cut.is_cancelled()).unwrap_or_else(|| {
            let cut = Arc::new(CancellationToken::new());
            cuts.insert(session, Arc::downgrade(&cut));
            cut
        })
    }

    fn cut(&self, session: SessionId) {
        let mut cuts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cut) = cuts.remove(&session).as_ref().and_then(Weak::upgrade) {
            cut.cancel();
        }
    }
}

/// An offer with every field read.
struct Offer {
    session: SessionId,
    kind: SessionKind,
    ticket: Ticket,
    relay: String,
    device: Thumbprint,
}

impl Offer {
    fn read(offer: &CarrierOffer) -> Option<Self> {
        Some(Self {
            session: offer.session_id.parse().ok()?,
            kind: offer.kind().try_into().ok()?,
            ticket: Ticket::from_slice(&offer.ticket)?,
            relay: offer.relay.clone(),
            device: words::thumbprint(&offer.device_thumbprint).ok()?,
        })
    }
}

impl Carriers {
    /// Serves what the hub asks for until the link's task is gone.
    pub(crate) async fn serve(self, mut asked: mpsc::Receiver<Asked>) {
        while let Some(asked) = asked.recv().await {
            match asked {
                Asked::Carrier(offer) => match Offer::read(&offer) {
                    Some(offer) => {
                        tokio::spawn(self.clone().carry(offer));
                    }
                    None => warn!(
                        carrier = offer.carrier_id,
                        "The hub offered a carrier that makes no sense"
                    ),
                },
                Asked::Revoked { session, reason } => {
                    info!(%session, reason, "A session was revoked");
                    self.cuts.cut(session);
                }
            }
        }
    }

    async fn carry(self, offer: Offer) {
        let (session, kind) = (offer.session, offer.kind);
        let carried = match kind {
            SessionKind::Consume => self.carry_consume(offer).await,
            SessionKind::Intercept => self.carry_intercept(offer).await,
        };
        if let Err(error) = carried {
            warn!(%session, %kind, "A carrier could not be made: {error:#}");
        }
    }

    async fn carry_consume(self, offer: Offer) -> anyhow::Result<()> {
        let (session, device) = (offer.session, offer.device);
        if !self
            .grants
            .becomes_wanted(|wanted| wanted.consumes.get(&session) == Some(&device))
            .await
        {
            bail!("the hub does not want this session");
        }
        let io = dial_relay(&offer.relay, &offer.ticket, Side::Cluster, &self.connector).await?;
        let (identity, peer) = (self.identity.borrow().tls.clone(), self.laptop(device));
        let handshake = Acceptor::handshake(io, &identity, &peer).await;
        let (acceptor, driver) = handshake.context("the laptop did not prove itself")?;
        debug!(%session, "A carrier of a consume is up");
        let driver = tokio::spawn(driver);
        let cut = self.cuts.of(session);
        let consume = Consume {
            session,
            device,
            grants: self.grants,
            inventory: self.inventory,
            first_uses: self.first_uses,
        };
        consume.serve(acceptor, &cut).await;
        driver.abort();
        Ok(())
    }

    async fn carry_intercept(self, offer: Offer) -> anyhow::Result<()> {
        let (session, device) = (offer.session, offer.device);
        let is_it = |wanted: &crate::wanted::Wanted| {
            wanted.intercepts.get(&session).is_some_and(|intercept| intercept.device == device)
        };
        if !self.grants.becomes_wanted(is_it).await {
            bail!("the hub does not want this session");
        }
        let io = dial_relay(&offer.relay, &offer.ticket, Side::Cluster, &self.connector).await?;
        let (identity, peer) = (self.identity.borrow().tls.clone(), self.laptop(device));
        let handshake = Opener::handshake(io, &identity, &peer).await;
        let (opener, driver) = handshake.context("the laptop did not prove itself")?;
        debug!(%session, "A carrier of an intercept is up");
        let (cut, hold) = (self.cuts.of(session), self.holds.of(session));
        tokio::select! {
            () = hold.carry(opener, driver) => {}
            () = cut.cancelled() => {}
        }
        Ok(())
    }

    fn laptop(&self, device: Thumbprint) -> PeerExpectation {
        PeerExpectation::device(self.organization_certificate.clone(), device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_that_is_over_is_forgotten() {
        let cuts = Cuts::default();
        let (one, other) = (SessionId::generate(), SessionId::generate());
        let (first, second) = (cuts.of(one), cuts.of(one));
        drop(first);
        cuts.cut(one);
        assert!(second.is_cancelled());
        assert!(!cuts.of(one).is_cancelled(), "what comes after a cut is not cut");
        let _kept = cuts.of(other);
        assert_eq!(cuts.0.lock().expect("not poisoned").len(), 1);
    }
}
