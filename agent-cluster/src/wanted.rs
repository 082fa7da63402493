//! What the hub says should be: every live session of this teamspace, checked once when it arrives.

use std::{collections::BTreeMap, time::Duration};

use fairlead_model::{InterceptPort, ServiceRef, SessionId, SessionKind, Thumbprint, timers};
use fairlead_wire::{link::v1, words};
use tracing::warn;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// The laptop key of each consume session.
    pub(crate) consumes: BTreeMap<SessionId, Thumbprint>,
    pub(crate) intercepts: BTreeMap<SessionId, WantedIntercept>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WantedIntercept {
    pub(crate) device: Thumbprint,
    pub(crate) email: String,
    pub(crate) service: ServiceRef,
    pub(crate) ports: Vec<InterceptPort>,
    pub(crate) grace: Duration,
}

impl Wanted {
    /// Reads the hub's list. A session that makes no sense is left out, which ends it here.
    pub(crate) fn from_wire(wanted: v1::Wanted) -> Self {
        let mut all = Self::default();
        for session in wanted.sessions {
            let text = session.session_id.clone();
            if let Err(problem) = all.add(session) {
                warn!(
                    session = text,
                    "The hub wants a session that cannot be understood: {problem}"
                );
            }
        }
        all
    }

    fn add(&mut self, session: v1::WantedSession) -> anyhow::Result<()> {
        let id: SessionId = session.session_id.parse()?;
        let device = words::thumbprint(&session.device_thumbprint)?;
        match SessionKind::try_from(session.kind())? {
            SessionKind::Consume => {
                self.consumes.insert(id, device);
            }
            SessionKind::Intercept => {
                let ports = session.ports.iter().map(InterceptPort::try_from);
                let intercept = WantedIntercept {
                    device,
                    service: words::service(session.service.as_ref())?,
                    ports: ports.collect::<Result<_, _>>()?,
                    grace: Duration::from_secs(session.grace_s.into())
                        .min(timers::INTERCEPT_GRACE_MAX),
                    email: session.user_email,
                };
                self.intercepts.insert(id, intercept);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(kind: v1::SessionKind) -> v1::WantedSession {
        v1::WantedSession {
            session_id: SessionId::generate().to_string(),
            kind: kind.into(),
            device_thumbprint: vec![7; 32],
            user_email: "ada@example.test".to_owned(),
            service: Some(v1::ServiceRef { namespace: "shop".to_owned(), name: "cart".to_owned() }),
            ports: vec![v1::InterceptPort { service_port: 80, laptop_port: 3000 }],
            grace_s: 100_000,
        }
    }

    fn read(sessions: Vec<v1::WantedSession>) -> Wanted {
        Wanted::from_wire(v1::Wanted { sessions })
    }

    #[test]
    fn sessions_are_told_apart_by_kind_and_the_grace_is_bounded() {
        let wanted =
            read(vec![session(v1::SessionKind::Consume), session(v1::SessionKind::Intercept)]);
        assert_eq!((wanted.consumes.len(), wanted.intercepts.len()), (1, 1));
        assert!(wanted.intercepts.values().all(|i| i.grace == timers::INTERCEPT_GRACE_MAX));
    }

    #[test]
    fn a_session_that_makes_no_sense_does_not_hide_its_neighbours() {
        let mut broken = session(v1::SessionKind::Intercept);
        broken.service = None;
        let wanted = read(vec![broken, session(v1::SessionKind::Intercept)]);
        assert_eq!(wanted.intercepts.len(), 1);
    }
}
