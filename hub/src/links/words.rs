//! Our nouns in the words of the links, and back.

use fairlead_model::{Phase, Port, Protocol, ServiceRef, SessionId, SessionKind};
use fairlead_wire::link::v1 as wire;
use hub_store::{PortOfService, Service, Session, Wanted};

/// Longest text of a peer that is kept.
const DETAIL_MAX_CHARS: usize = 500;

#[derive(Debug, thiserror::Error)]
#[error("{noun}: {problem}")]
pub(super) struct Unreadable {
    noun: &'static str,
    problem: String,
}

fn unreadable(noun: &'static str, problem: impl ToString) -> Unreadable {
    Unreadable { noun, problem: problem.to_string() }
}

pub(crate) const fn kind(kind: SessionKind) -> wire::SessionKind {
    match kind {
        SessionKind::Consume => wire::SessionKind::Consume,
        SessionKind::Intercept => wire::SessionKind::Intercept,
    }
}

pub(crate) fn revoked(session: SessionId, reason: &str) -> wire::Revoked {
    wire::Revoked { session_id: session.to_string(), reason: reason.to_owned() }
}

pub(crate) fn wanted_session(session: &Session) -> wire::WantedSession {
    let mut wanted = wire::WantedSession {
        session_id: session.id.to_string(),
        kind: kind(session.kind()).into(),
        device_thumbprint: session.device_key.as_bytes().to_vec(),
        user_email: session.email.clone(),
        ..Default::default()
    };
    if let Wanted::Intercept { service, ports, grace_s } = &session.wanted {
        wanted.service = Some(wire::ServiceRef {
            namespace: service.namespace.to_string(),
            name: service.name.to_string(),
        });
        wanted.ports = ports
            .iter()
            .map(|port| wire::InterceptPort {
                service_port: port.service_port.get().into(),
                laptop_port: port.laptop_port.get().into(),
            })
            .collect();
        wanted.grace_s = *grace_s;
    }
    wanted
}

pub(super) fn read_service_ref(
    service: Option<&wire::ServiceRef>,
) -> Result<ServiceRef, Unreadable> {
    let service = service.ok_or_else(|| unreadable("service", "no name"))?;
    ServiceRef::parse_parts(&service.namespace, &service.name)
        .map_err(|error| unreadable("service", error))
}

pub(super) fn read_service(service: wire::CatalogueService) -> Result<Service, Unreadable> {
    let name = read_service_ref(service.service.as_ref())?;
    let ports = service.ports.into_iter().filter_map(read_port).collect();
    let some = |text: String| (!text.is_empty()).then_some(text);
    Ok(Service {
        service: name,
        kind: service.r#type,
        ports,
        workload: some(service.workload),
        ready_endpoints: i32::try_from(service.ready_endpoints).unwrap_or(i32::MAX),
        labels: service.labels.into_iter().collect(),
        intercept_refusal: some(shortened(&service.intercept_refusal)),
    })
}

/// Reads a port; what is neither TCP nor UDP (SCTP) cannot be carried and is left out.
fn read_port(port: wire::CataloguePort) -> Option<PortOfService> {
    let protocol = match port.protocol.as_str() {
        "TCP" => Protocol::Tcp,
        "UDP" => Protocol::Udp,
        _ => return None,
    };
    Some(PortOfService {
        name: port.name,
        port: Port::try_from(port.port).ok()?,
        protocol,
        target_port: port.target_port,
        app_protocol: port.app_protocol,
    })
}

pub(super) fn read_phase(observed: &wire::SessionObserved) -> Result<Phase, Unreadable> {
    match observed.phase() {
        wire::Phase::Preparing => Ok(Phase::Preparing),
        wire::Phase::Active => Ok(Phase::Active),
        wire::Phase::Away => Ok(Phase::Away),
        wire::Phase::Contested => Ok(Phase::Contested),
        wire::Phase::Refused => Ok(Phase::Refused),
        wire::Phase::Ended => Ok(Phase::Ended),
        wire::Phase::Unspecified => Err(unreadable("phase", "none was given")),
    }
}

pub(super) fn read_session_id(text: &str) -> Result<SessionId, Unreadable> {
    text.parse().map_err(|error| unreadable("session", error))
}

pub(super) fn shortened(text: &str) -> String {
    text.chars().take(DETAIL_MAX_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_with_a_name_that_is_none_is_not_taken() {
        let service = wire::ServiceRef { namespace: "Shop".to_owned(), name: "cart".to_owned() };
        assert!(read_service_ref(Some(&service)).is_err());
        assert!(read_service_ref(None).is_err());
    }

    #[test]
    fn a_port_that_cannot_be_carried_is_left_out() {
        let port = |protocol: &str, port| wire::CataloguePort {
            protocol: protocol.to_owned(),
            port,
            ..Default::default()
        };
        let service = wire::CatalogueService {
            service: Some(wire::ServiceRef {
                namespace: "shop".to_owned(),
                name: "cart".to_owned(),
            }),
            ports: vec![port("TCP", 80), port("SCTP", 81), port("UDP", 0)],
            ..Default::default()
        };
        let read = read_service(service).expect("a service");
        assert_eq!(read.ports.len(), 1);
        assert_eq!(read.intercept_refusal, None);
    }
}
