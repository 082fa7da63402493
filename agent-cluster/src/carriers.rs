//! Carriers: the hub offers one, this replica dials the relay, and both ends prove who they are. What travels on it
//! belongs to `consume.rs` or to `intercept`; here it is only made, and cut when its session is revoked. Of an intercept
//! this replica opens the streams, so it asks for further carriers where there is bulk.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use anyhow::{Context, bail};
use fairlead_model::{SessionId, SessionKind, Thumbprint};
use fairlead_tunnel::{
    Acceptor, Opener, PeerExpectation,
    connect::{Half, Ways},
};
use fairlead_wire::{link::v1::CarrierOffer, preface::Side, ticket::Ticket, words};
use rustls_pki_types::CertificateDer;
use tokio::sync::{mpsc, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, info, warn};

use crate::{
    consume::{Consume, Used},
    data_plane::DataThreads,
    enrol::ReplicaKey,
    grants::Grants,
    intercept::{holds::Holds, lanes::Kind},
    link::Asked,
    outside::Border,
    report::FirstUses,
    resolve::Resolver,
    watch::Inventory,
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
    pub(crate) carried: CarriedSessions,
    /// Sessions that want a further carrier; the hub is asked.
    pub(crate) further: mpsc::Sender<SessionId>,
    pub(crate) ways: Ways,
    /// From then on nothing new is carried for laptops that consume, and what is open may end.
    pub(crate) leaving: CancellationToken,
    /// What is carried for them.
    pub(crate) consumes: TaskTracker,
    pub(crate) resolver: Resolver,
    pub(crate) border: Border,
    /// Where carriers of consumes live.
    pub(crate) data_threads: DataThreads,
}

/// What all carriers of a session share; forgotten when the last of them has ended.
#[derive(Clone, Debug, Default)]
pub(crate) struct CarriedSessions(Arc<Mutex<BTreeMap<SessionId, Weak<CarriedSession>>>>);

#[derive(Debug, Default)]
struct CarriedSession {
    /// Ends everything of it.
    cut: CancellationToken,
    used: Arc<Used>,
}

impl CarriedSessions {
    /// Returns what is shared of `session`; whoever carries something of it keeps this as long.
    fn of(&self, session: SessionId) -> Arc<CarriedSession> {
        let mut carried = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        carried.retain(|_, session| session.strong_count() > 0);
        let known = carried.get(&session).and_then(Weak::upgrade);
        known.filter(|session| !session.cut.is_cancelled()).unwrap_or_else(|| {
            let new = Arc::new(CarriedSession::default());
            carried.insert(session, Arc::downgrade(&new));
            new
        })
    }

    fn cut(&self, session: SessionId) {
        let mut carried = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(session) = carried.remove(&session).as_ref().and_then(Weak::upgrade) {
            session.cut.cancel();
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
    lane: Kind,
}

impl Offer {
    fn read(offer: &CarrierOffer) -> Option<Self> {
        Some(Self {
            session: offer.session_id.parse().ok()?,
            kind: offer.kind().try_into().ok()?,
            ticket: Ticket::from_slice(&offer.ticket)?,
            relay: offer.relay.clone(),
            device: words::thumbprint(&offer.device_thumbprint).ok()?,
            lane: if offer.further { Kind::Further } else { Kind::First },
        })
    }
}

impl Carriers {
    /// Serves what the hub asks for until the link's task is gone.
    pub(crate) async fn serve(self, mut asked: mpsc::Receiver<Asked>) {
        while let Some(asked) = asked.recv().await {
            match asked {
                Asked::Carrier(offer) => match Offer::read(&offer) {
                    Some(offer) => self.begin(offer),
                    None => warn!(
                        carrier = offer.carrier_id,
                        "The hub offered a carrier that makes no sense"
                    ),
                },
                Asked::Revoked { session, reason } => {
                    info!(%session, reason, "A session was revoked");
                    self.carried.cut(session);
                }
            }
        }
    }

    /// Begins a carrier where what travels on it begins: of a consume that is the carrier itself, and of an intercept the
    /// listeners, which are everywhere.
    fn begin(&self, offer: Offer) {
        let (kind, session) = (offer.kind, offer.session);
        let carried = self.clone().carry(offer);
        match kind {
            SessionKind::Consume => self.data_threads.spawn(session, carried),
            SessionKind::Intercept => drop(tokio::spawn(carried)),
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
        let Half { io, path } = self.ways.dial(&offer.relay, &offer.ticket, Side::Cluster).await?;
        let (identity, peer) = (self.identity.borrow().tls.clone(), self.laptop(device));
        let handshake = Acceptor::handshake(io, &identity, &peer).await;
        let (acceptor, driver) = handshake.context("the laptop did not prove itself")?;
        debug!(%session, %path, "A carrier of a consume is up");
        let driver = tokio::spawn(driver);
        let carried = self.carried.of(session);
        let consume = Consume {
            session,
            device,
            grants: self.grants,
            inventory: self.inventory,
            first_uses: self.first_uses,
            used: Arc::clone(&carried.used),
            leaving: self.leaving,
            resolver: self.resolver,
            border: self.border,
        };
        self.consumes.track_future(consume.serve(acceptor, &carried.cut)).await;
        driver.abort();
        Ok(())
    }

    async fn carry_intercept(self, offer: Offer) -> anyhow::Result<()> {
        let (session, device, kind) = (offer.session, offer.device, offer.lane);
        let is_it = |wanted: &crate::wanted::Wanted| {
            wanted.intercepts.get(&session).is_some_and(|intercept| intercept.device == device)
        };
        if !self.grants.becomes_wanted(is_it).await {
            bail!("the hub does not want this session");
        }
        let hold = self.holds.of(session);
        if kind == Kind::Further && !hold.may_grow() {
            bail!(
                "there are as many carriers as there may be, or none beside which it could stand"
            );
        }
        let Half { io, path } = self.ways.dial(&offer.relay, &offer.ticket, Side::Cluster).await?;
        let (identity, peer) = (self.identity.borrow().tls.clone(), self.laptop(device));
        let handshake = Opener::handshake(io, &identity, &peer).await;
        let (opener, driver) = handshake.context("the laptop did not prove itself")?;
        debug!(%session, %path, "A carrier of an intercept is up");
        let carried = self.carried.of(session);
        tokio::select! {
            () = hold.carry(opener, driver, kind) => {}
            () = hold.grow(&self.further), if kind == Kind::First => {}
            () = carried.cut.cancelled() => {}
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
        let sessions = CarriedSessions::default();
        let (one, other) = (SessionId::generate(), SessionId::generate());
        let (first, second) = (sessions.of(one), sessions.of(one));
        drop(first);
        sessions.cut(one);
        assert!(second.cut.is_cancelled());
        assert!(!sessions.of(one).cut.is_cancelled(), "what comes after a cut is not cut");
        let _kept = sessions.of(other);
        assert_eq!(sessions.0.lock().expect("not poisoned").len(), 1);
    }
}
