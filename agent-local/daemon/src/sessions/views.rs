//! What the daemon shows of its sessions to commands and to a person.

use fairlead_model::{Phase, SessionId, SessionKind};
use laptop_ipc::daemon::{self, Laptop};

use super::{Sessions, places::Placed};
use crate::{
    desired::{DesiredSession, Wish},
    session::Session,
};

impl Sessions {
    pub(crate) fn views(&self) -> Vec<daemon::Session> {
        self.by_id.values().map(|session| self.view(session)).collect()
    }

    pub(crate) fn view_of(&self, id: SessionId) -> Option<daemon::Session> {
        self.by_id.get(&id).map(|session| self.view(session))
    }

    pub(crate) fn phase_of(&self, id: SessionId) -> Option<Phase> {
        self.by_id.get(&id).map(|session| self.proven_phase(session).0)
    }

    fn view(&self, session: &Session) -> daemon::Session {
        let DesiredSession { id, teamspace, wish, .. } = &session.desired;
        let (wanted, services, ports) = match wish {
            Wish::Consume { patterns, services } => {
                let wanted = patterns.iter().map(ToString::to_string).collect();
                let live = services.iter().filter(|_| session.is_live());
                let placed = live.filter_map(|(callee, _)| {
                    let (name, address, ports) = match &session.program {
                        Some(program) => {
                            let (address, ports) = program.places.get(callee)?.clone();
                            (callee.dns_name(), address, ports)
                        }
                        None => {
                            let placed = self.addresses.get(&(teamspace.id, callee.clone()))?;
                            let Placed { address, ports, short_name, .. } = placed.clone();
                            (short_name, address, ports)
                        }
                    };
                    let refusal = session.refusals.get(callee).cloned();
                    let remapped = self.remapped(address, &ports);
                    let callee = callee.clone();
                    Some(daemon::Reached { callee, name, address, ports, remapped, refusal })
                });
                (wanted, placed.collect(), Vec::new())
            }
            Wish::Intercept { service, ports } => {
                (vec![service.to_string()], Vec::new(), ports.clone())
            }
        };
        let (phase, detail) = self.proven_phase(session);
        let handles = session.carriers();
        let carriers = handles.len();
        let paths = handles.iter().filter_map(|carrier| carrier.path().cloned()).collect();
        let (id, kind, teamspace) = (*id, session.kind(), teamspace.clone());
        let failure = session.failure.clone();
        let is_home = match kind {
            SessionKind::Consume if session.is_of_everybody() => {
                self.at_home() == Some(session.desired.teamspace.id)
            }
            // A program has names of its own.
            SessionKind::Consume => true,
            SessionKind::Intercept => false,
        };
        daemon::Session {
            id,
            kind,
            teamspace,
            phase,
            detail,
            failure,
            wanted,
            services,
            is_home,
            of_program: session.program.is_some(),
            ports,
            carriers,
            paths,
        }
    }

    /// A consume is active only while its names lead here, too.
    fn proven_phase(&self, session: &Session) -> (Phase, Option<String>) {
        match (&self.laptop, session.is_of_everybody(), session.phase) {
            (Laptop::Broken { reason }, true, Phase::Active) => {
                (Phase::Preparing, Some(reason.clone()))
            }
            _ => (session.phase, session.detail.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use fairlead_model::TeamspaceId;

    use super::super::tests::consume;
    use super::*;

    #[test]
    fn a_session_that_ended_is_shown_with_its_reason_and_reaches_nothing() {
        let mut sessions = Sessions::new();
        let session = consume(TeamspaceId::generate());
        let id = session.desired.id;
        sessions.insert(session);
        assert!(sessions.end(id, Phase::Ended, Some("revoked".to_owned())));
        assert!(!sessions.end(id, Phase::Ended, None), "it ends once");
        let view = sessions.view_of(id).expect("shown");
        assert_eq!((view.phase, view.detail.as_deref()), (Phase::Ended, Some("revoked")));
        assert_eq!(view.services, []);
        assert_eq!((sessions.reached(), sessions.desired()), (vec![], vec![]));
    }

    #[test]
    fn a_consume_is_not_active_while_names_do_not_lead_here() {
        let mut sessions = Sessions::new();
        let mut session = consume(TeamspaceId::generate());
        let id = session.desired.id;
        session.phase = Phase::Active;
        sessions.insert(session);
        assert_eq!(sessions.view_of(id).expect("there").phase, Phase::Active);
        sessions.set_laptop(Laptop::Broken { reason: "flushed".to_owned() });
        assert_eq!(sessions.view_of(id).expect("there").phase, Phase::Preparing);
    }
}
