//! What each session was granted and what of that was shown to an agent; what commands changed, and by which services
//! that can be proven.
//!
//! What a grant says is read in `crate::granted`; what a session does with one in `session.rs`.

use std::collections::BTreeSet;

use fairlead_model::{Callee, Patterns, Phase, ServicePort, SessionId};
use fairlead_tunnel::CarrierHandle;

use super::Sessions;
use crate::{desired::Wish, granted::Granted, session::Session};

impl Sessions {
    /// Takes a grant for a live session. Says whether names have to follow.
    pub(crate) fn take(&mut self, id: SessionId, granted: Granted) -> bool {
        let is_changed = self.live_mut(id).is_some_and(|session| session.take(granted));
        if is_changed {
            self.changes_tx.send_replace(());
        }
        is_changed
    }

    /// Returns what a consume was granted.
    pub(crate) fn granted(&self, id: SessionId) -> Vec<Callee> {
        match self.live(id).map(|session| &session.desired.wish) {
            Some(Wish::Consume { services, .. }) => {
                services.iter().map(|(service, _)| service.clone()).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Takes note that an agent has accepted a grant on one carrier.
    pub(crate) fn note_accepted(&mut self, id: SessionId, carrier: &CarrierHandle, grant: String) {
        if let Some(session) = self.live_mut(id) {
            session.accept(carrier, grant);
        }
        self.note_shown_everywhere(id);
    }

    /// Takes note of the grant that was accepted on each carrier, if it is the same.
    pub(crate) fn note_shown_everywhere(&mut self, id: SessionId) {
        if let Some(grant) = self.live(id).and_then(Session::accepted_everywhere).cloned() {
            self.note_shown(id, grant);
        }
    }

    /// Takes note that the agent knows a grant, whichever carrier is asked.
    pub(crate) fn note_shown(&mut self, id: SessionId, grant: String) {
        if let Some(session) = self.live_mut(id) {
            session.shown = grant;
            self.changes_tx.send_replace(());
        }
    }

    /// Takes note that a command has changed what a consume is about. What it has added is not proven yet.
    pub(crate) fn note_change(&mut self, id: SessionId, before: Patterns, had: &[Callee]) {
        let Some(session) = self.live_mut(id) else { return };
        session.before.get_or_insert(before);
        let Wish::Consume { services, .. } = &session.desired.wish else { return };
        let had: BTreeSet<_> = had.iter().collect();
        let added = services.iter().map(|(service, _)| service).filter(|s| !had.contains(s));
        session.added = added.cloned().collect();
        if !session.added.is_empty() {
            session.phase = Phase::Preparing;
            session.detail = None;
        }
        self.changes_tx.send_replace(());
    }

    /// Takes note that the command that began a session has heard how it went.
    pub(crate) fn note_heard(&mut self, id: SessionId) {
        if let Some(session) = self.live_mut(id) {
            session.is_heard = true;
            session.before = None;
            session.added.clear();
            self.changes_tx.send_replace(());
        }
    }

    /// Takes note that a session is about what it was about before a command changed that.
    pub(crate) fn note_put_back(&mut self, id: SessionId) {
        if let Some(session) = self.live_mut(id) {
            session.before = None;
            session.added.clear();
        }
    }

    /// Returns the services by which a consume can be proven, what was added last before the others: what was granted,
    /// without what leads back to this laptop unless there is nothing else.
    pub(crate) fn provable(&self, id: SessionId) -> Vec<(Callee, Vec<ServicePort>)> {
        let Some(session) = self.live(id) else { return Vec::new() };
        let Wish::Consume { services, .. } = &session.desired.wish else { return Vec::new() };
        let of = session.desired.teamspace.id;
        let here = self.all_live().filter(|other| other.desired.teamspace.id == of);
        let mine: BTreeSet<_> = here
            .filter_map(|other| match &other.desired.wish {
                Wish::Intercept { service, .. } => Some(service),
                Wish::Consume { .. } => None,
            })
            .collect();
        let others =
            services.iter().filter(|(c, _)| !c.service().is_some_and(|s| mine.contains(s)));
        let others: Vec<_> = others.cloned().collect();
        let mut provable = if others.is_empty() { services.clone() } else { others };
        provable.sort_by_key(|(service, _)| !session.added.contains(service));
        provable
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use fairlead_model::{GrantId, OrgId, ServiceRef, SessionKind, TeamspaceId, UserId};
    use fairlead_wire::{grant, key::Key};

    use super::super::tests::{consume, intercept, port, session_of};
    use super::*;

    #[test]
    fn a_grant_that_was_overtaken_changes_nothing() {
        let mut sessions = Sessions::new();
        let session = consume(TeamspaceId::generate());
        let id = session.desired.id;
        sessions.insert(session);
        let (first, second) = (granted(&["shop/cart"]), granted(&["shop/cart", "shop/pay"]));
        let late = Granted { jwt: first.jwt.clone(), ..granted(&[]) };
        assert!(sessions.take(id, first));
        assert!(sessions.take(id, second));
        assert!(!sessions.take(id, late));
        let names: Vec<_> = sessions.reached().iter().map(|r| r.callee.to_string()).collect();
        assert_eq!(names, ["shop/cart", "shop/pay"]);
    }

    /// A grant as the hub would mint it at this moment.
    fn granted(services: &[&str]) -> Granted {
        let service = |name: &&str| grant::GrantedService {
            service: name.parse().expect("valid"),
            ports: vec![port(80)],
            pods: Vec::new(),
        };
        let key = Key::generate().expect("made");
        let jwt = grant::GrantSigner::new(&key).sign(&grant::Grant {
            id: GrantId::generate(),
            session: SessionId::generate(),
            teamspace: TeamspaceId::generate(),
            organization: OrgId::generate(),
            user: UserId::generate(),
            device: key.thumbprint(),
            action: SessionKind::Consume,
            services: services.iter().map(service).collect(),
            hosts: Vec::new(),
            policy_version: 1,
            issued_at: SystemTime::now(),
            expires_at: SystemTime::now(),
        });
        Granted::heard(jwt, &[])
    }

    #[test]
    fn what_i_intercept_proves_nothing_unless_there_is_nothing_else() {
        let (teamspace, mut sessions) = (TeamspaceId::generate(), Sessions::new());
        let session = consume(teamspace);
        let id = session.desired.id;
        sessions.insert(session);
        assert_eq!(sessions.provable(id).len(), 2);
        sessions.insert(intercept(teamspace));
        let names: Vec<_> = sessions.provable(id).iter().map(|(s, _)| s.to_string()).collect();
        assert_eq!(names, ["shop/frontend"]);
        let service = "shop/frontend".parse().expect("valid");
        sessions.insert(session_of(teamspace, Wish::Intercept { service, ports: Vec::new() }));
        assert_eq!(sessions.provable(id).len(), 2);
    }

    #[test]
    fn what_a_command_added_is_proven_before_the_session_is_active_again() {
        let mut sessions = Sessions::new();
        let session = consume(TeamspaceId::generate());
        let (id, patterns) = (session.desired.id, session.patterns().cloned().expect("a consume"));
        sessions.insert(session);
        sessions.observe(id, Phase::Active, None);
        let both: [Callee; 2] =
            ["shop/cart", "shop/frontend"].map(|s| s.parse::<ServiceRef>().expect("valid").into());
        sessions.note_change(id, patterns.clone(), &both);
        assert_eq!(sessions.view_of(id).expect("there").phase, Phase::Active, "nothing is new");

        sessions.note_change(id, patterns, &both[..1]);
        assert_eq!(sessions.view_of(id).expect("there").phase, Phase::Preparing);
        assert_eq!(sessions.provable(id)[0].0, both[1]);
        sessions.note_heard(id);
        assert_eq!(sessions.provable(id)[0].0, both[0], "it is like the others");
    }
}
