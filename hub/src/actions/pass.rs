//! One pass over the live sessions of a teamspace: what they have in common is read once, what each of them has for many
//! at a time, and most of them are seen to stand as they are.
//!
//! What was read is good for nothing else. Whatever may have to end or to change is decided by itself, with everything as
//! it is at that moment (`reconsider.rs`), so no session loses or gains anything by what a pass has read a while ago. So is
//! one about which somebody else decides meanwhile: a pass takes no turns, and watches who does. A change that comes after
//! that calls for a pass of its own, which reads anew: nothing outlives the pass.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use fairlead_model::{DeviceId, OrgId, SessionId, TeamspaceId, UserId};
use hub_policy::{Caller, Facts, Policies};
use hub_store::{Granted, Held, Service, Session, StoreError, Wanted};

use super::{
    consume,
    reconsider::{Again, Asked, Permitted, lost, new},
    turns::Watch,
};
use crate::Hub;

/// What the sessions stand on, as it is when the pass begins. The watch began before the sessions were read.
#[derive(Debug)]
pub(crate) struct Pass {
    watch: Watch,
    policies: Arc<Policies>,
    /// The users of the sessions; none who was removed.
    callers: BTreeMap<UserId, Caller>,
    /// Those at which somebody is signed in.
    devices: BTreeSet<DeviceId>,
    is_locked: bool,
    catalogue: Vec<Service>,
}

/// What each of some sessions may reach, and what else a grant may name that its laptop may still hold.
pub(crate) type HeldBy = BTreeMap<SessionId, Held>;

impl Pass {
    /// Reads what these sessions of one teamspace have in common.
    pub(crate) async fn begin(
        hub: &Hub,
        org: OrgId,
        teamspace: TeamspaceId,
        sessions: &[Session],
        watch: Watch,
    ) -> Result<Self, StoreError> {
        let scope = hub.store.scoped(org);
        let users: BTreeSet<_> = sessions.iter().map(|session| session.user).collect();
        let devices: Vec<_> = sessions.iter().map(|session| session.device).collect();
        let catalogue = scope.services(teamspace).await?;
        hub.absences.are_there((org, teamspace), catalogue.iter().map(|there| &there.service));
        Ok(Self {
            watch,
            policies: hub.policies_of(org).await?,
            callers: scope.callers_of(&users.into_iter().collect::<Vec<_>>()).await?,
            devices: scope.signed_in_devices(Some(&devices), hub.clock.now()).await?,
            is_locked: scope.teamspace(teamspace).await?.lock_reason.is_some(),
            catalogue,
        })
    }

    /// Says whether a session may go on as it is. Where it cannot be said, the answer is no, and the session is decided
    /// again by itself.
    pub(crate) fn sees_stand(&self, hub: &Hub, session: &Session, held: &HeldBy) -> bool {
        self.stands(hub, session, held)
            // Last: whoever takes a turn later decides on what is there by then.
            && self.watch.saw_nobody_at(session.id)
    }

    fn stands(&self, hub: &Hub, session: &Session, held: &HeldBy) -> bool {
        let Some(caller) = self.callers.get(&session.user) else { return false };
        if self.is_locked || !self.devices.contains(&session.device) {
            return false;
        }
        let from = session.begun_from.as_ref().and_then(|text| text.parse().ok());
        let caller = Caller { from, ..caller.clone() };
        let policies = Arc::clone(&self.policies);
        let facts = Facts { now: hub.clock.now(), mfa_age_s: None, policies };
        match &session.wanted {
            Wanted::Consume { patterns } => {
                let Some(held) = held.get(&session.id) else { return false };
                let (catalogue, teamspace) = (&self.catalogue, session.teamspace_facts());
                let decided =
                    consume::decide_matching(&caller, patterns, catalogue, &teamspace, &facts);
                let permitted = Permitted::by(decided.permitted());
                let asked = Asked { caller: &caller, facts: &facts, catalogue, permitted };
                lost(session, held, &asked).is_none()
                    && new(&held.granted, decided.permitted()).is_empty()
                    && self.has_all_of(&held.granted)
            }
            Wanted::Intercept { service, ports, grace_s } => {
                let again = Again { service, ports, grace_s: *grace_s };
                again.lost(session, &caller, &facts, &self.catalogue).is_none()
            }
        }
    }

    /// Says whether the catalogue has each service that is granted, with the pods that are.
    fn has_all_of(&self, granted: &Granted) -> bool {
        let pods: BTreeMap<_, _> =
            self.catalogue.iter().map(|there| (&there.service, &there.pods)).collect();
        granted.services.iter().all(|had| pods.get(&had.service) == Some(&&had.pods))
    }
}
