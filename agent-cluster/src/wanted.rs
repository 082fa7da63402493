//! What the hub says should be: every live session of this teamspace, checked once when it arrives.

use std::{collections::BTreeMap, time::Duration};

use fairlead_model::{InterceptPort, Port, ServiceRef, SessionId, Thumbprint, timers};
use fairlead_wire::link::v1;
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
            if all.add(session).is_none() {
                warn!(session = text, "The hub wants a session that cannot be understood");
            }
        }
        all
    }

    fn add(&mut self, session: v1::WantedSession) -> Option<()> {
        let id: SessionId = session.session_id.parse().ok()?;
        let device = thumbprint(&session.device_thumbprint)?;
        match session.kind() {
            v1::SessionKind::Consume => {
                self.consumes.insert(id, device);
            }
            v1::SessionKind::Intercept => {
                let service = session.service?;
                let intercept = WantedIntercept {
                    device,
                    email: session.user_email,
                    service: ServiceRef::parse_parts(&service.namespace, &service.name).ok()?,
                    ports: session.ports.iter().map(port).collect::<Option<_>>()?,
                    grace: Duration::from_secs(session.grace_s.into())
                        .min(timers::INTERCEPT_GRACE_MAX),
                };
                self.intercepts.insert(id, intercept);
            }
            v1::SessionKind::Unspecified => return None,
        }
        Some(())
    }
}

fn port(port: &v1::InterceptPort) -> Option<InterceptPort> {
    Some(InterceptPort {
        service_port: Port::try_from(port.service_port).ok()?,
        laptop_port: Port::try_from(port.laptop_port).ok()?,
    })
}

pub(crate) fn thumbprint(bytes: &[u8]) -> Option<Thumbprint> {
    bytes.try_into().ok().map(Thumbprint::from_bytes)
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
        Wanted::from_wire(v1::Wanted { version: 1, sessions })
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
