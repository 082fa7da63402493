//! Which laptop key may open streams to what, until when. A grant counts only while its session is wanted; when that
//! ends, everything opened on it is cut.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use fairlead_model::{SessionId, SessionKind, Thumbprint};
use fairlead_wire::grant::{Grant, GrantRefused, GrantVerifier};
use tokio::{sync::watch, time::timeout};

use crate::{enrol::Enrolled, wanted::Wanted};

/// An offer may overtake the list of sessions that it belongs to by this much.
const WANTED_PATIENCE: Duration = Duration::from_secs(2);

#[derive(Debug, thiserror::Error)]
pub(crate) enum NotGranted {
    #[error(transparent)]
    Refused(#[from] GrantRefused),
    #[error("the grant is for another session than this carrier")]
    OtherSession,
    #[error("the grant is for another kind of session")]
    OtherKind,
    #[error("the session has ended")]
    SessionOver,
}

impl NotGranted {
    /// Says whether a clock is to blame, which is set right again: then the laptop may show the grant once more.
    pub(crate) const fn is_of_time(&self) -> bool {
        matches!(self, Self::Refused(refused) if refused.is_of_time())
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Grants {
    verifier: Arc<GrantVerifier>,
    wanted: watch::Receiver<Option<Arc<Wanted>>>,
}

impl Grants {
    pub(crate) fn new(enrolled: &Enrolled, wanted: watch::Receiver<Option<Arc<Wanted>>>) -> Self {
        Self {
            verifier: Arc::new(GrantVerifier::new(&enrolled.grant_key, enrolled.teamspace)),
            wanted,
        }
    }

    /// Checks a grant that was shown on the carrier of `session` by the holder of `device`.
    pub(crate) fn check(
        &self,
        jwt: &str,
        session: SessionId,
        device: &Thumbprint,
    ) -> Result<Grant, NotGranted> {
        let grant = self.verifier.verify(jwt, SystemTime::now(), device)?;
        if grant.session != session {
            return Err(NotGranted::OtherSession);
        }
        if grant.action != SessionKind::Consume {
            return Err(NotGranted::OtherKind);
        }
        if !self.is_wanted(session, device) {
            return Err(NotGranted::SessionOver);
        }
        Ok(grant)
    }

    fn is_wanted(&self, session: SessionId, device: &Thumbprint) -> bool {
        self.wanted.borrow().as_ref().is_some_and(|w| w.consumes.get(&session) == Some(device))
    }

    /// Waits for the hub to name `session` among those that should be; `false` when it does not.
    pub(crate) async fn becomes_wanted(&self, is_it: impl Fn(&Wanted) -> bool) -> bool {
        let mut wanted = self.wanted.clone();
        let named = wanted.wait_for(|wanted| wanted.as_ref().is_some_and(|w| is_it(w)));
        matches!(timeout(WANTED_PATIENCE, named).await, Ok(Ok(_)))
    }

    /// Waits until `session` of `device` is no longer among those that should be.
    pub(crate) async fn over(&self, session: SessionId, device: &Thumbprint) {
        let mut wanted = self.wanted.clone();
        let is_over = |wanted: &Option<Arc<Wanted>>| {
            wanted.as_ref().is_some_and(|w| w.consumes.get(&session) != Some(device))
        };
        let _sender_gone = wanted.wait_for(is_over).await;
    }
}

#[cfg(test)]
mod tests {
    use fairlead_model::{GrantId, OrgId, TeamspaceId, UserId};
    use fairlead_wire::{grant::GrantSigner, key::Key};

    use super::*;

    struct World {
        signer: GrantSigner,
        grants: Grants,
        wanted: watch::Sender<Option<Arc<Wanted>>>,
        grant: Grant,
    }

    fn world() -> World {
        let (key, teamspace) = (Key::generate().unwrap(), TeamspaceId::generate());
        let (session, device) = (SessionId::generate(), Thumbprint::from_bytes([7; 32]));
        let now = SystemTime::now();
        let grant = Grant {
            id: GrantId::generate(),
            session,
            teamspace,
            organization: OrgId::generate(),
            user: UserId::generate(),
            device,
            action: SessionKind::Consume,
            services: Vec::new(),
            hosts: Vec::new(),
            policy_version: 1,
            issued_at: now,
            expires_at: now + Duration::from_secs(900),
        };
        let wanted = Wanted { consumes: [(session, device)].into(), ..Wanted::default() };
        let (wanted_tx, wanted_rx) = watch::channel(Some(Arc::new(wanted)));
        let verifier = Arc::new(GrantVerifier::new(&key.public(), teamspace));
        World {
            signer: GrantSigner::new(&key),
            grants: Grants { verifier, wanted: wanted_rx },
            wanted: wanted_tx,
            grant,
        }
    }

    impl World {
        fn check(&self, grant: &Grant) -> Result<Grant, NotGranted> {
            let carrier = (self.grant.session, self.grant.device);
            self.grants.check(&self.signer.sign(grant), carrier.0, &carrier.1)
        }
    }

    #[test]
    fn a_grant_of_a_wanted_session_counts() {
        let world = world();
        assert!(world.check(&world.grant).is_ok());
    }

    #[test]
    fn a_grant_of_another_laptop_does_not_count() {
        let world = world();
        let stolen = Grant { device: Thumbprint::from_bytes([8; 32]), ..world.grant.clone() };
        assert!(matches!(
            world.check(&stolen),
            Err(NotGranted::Refused(GrantRefused::OtherDevice))
        ));
    }

    #[test]
    fn an_expired_grant_does_not_count() {
        let world = world();
        let now = SystemTime::now();
        let old = Grant {
            issued_at: now - Duration::from_secs(2000),
            expires_at: now - Duration::from_secs(1000),
            ..world.grant.clone()
        };
        let refused = world.check(&old).expect_err("it is over");
        assert!(matches!(refused, NotGranted::Refused(GrantRefused::Expired)), "{refused}");
        assert!(refused.is_of_time() && !NotGranted::OtherSession.is_of_time());
    }

    #[test]
    fn a_grant_of_another_session_or_kind_does_not_count() {
        let world = world();
        let other = Grant { session: SessionId::generate(), ..world.grant.clone() };
        assert!(matches!(world.check(&other), Err(NotGranted::OtherSession)));
        let intercept = Grant { action: SessionKind::Intercept, ..world.grant.clone() };
        assert!(matches!(world.check(&intercept), Err(NotGranted::OtherKind)));
    }

    #[tokio::test]
    async fn a_grant_dies_with_its_session() {
        let world = world();
        world.wanted.send_replace(Some(Arc::new(Wanted::default())));
        assert!(matches!(world.check(&world.grant), Err(NotGranted::SessionOver)));
        timeout(
            Duration::from_secs(1),
            world.grants.over(world.grant.session, &world.grant.device),
        )
        .await
        .expect("over is said at once");
    }
}
