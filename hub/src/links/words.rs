//! What a session, a service and an ending are in the messages of the links. Single words are `fairlead_wire::words`.

use fairlead_model::{Port, Protocol, SessionId};
use fairlead_wire::{link::v1 as wire, words};
use hub_store::{PortOfService, Service, Session, Wanted};
use prost::Message;

/// Longest text of a peer that is kept.
const DETAIL_MAX_CHARS: usize = 500;
/// Most pods of one service that are called by name.
const PODS_MAX: usize = 100;
/// Largest entry of a catalogue: with the number of services it bounds what a cluster can make the hub remember.
const SERVICE_MAX_BYTES: usize = 16 << 10;

#[derive(Debug, thiserror::Error)]
pub(super) enum Unreadable {
    #[error(transparent)]
    Word(#[from] words::Unreadable),
    #[error("service {name}: its ports and labels take more than {SERVICE_MAX_BYTES} bytes")]
    TooLarge { name: String },
    #[error("session: {0}")]
    Session(String),
}

pub(crate) fn revoked(session: SessionId, reason: &str) -> wire::Revoked {
    wire::Revoked { session_id: session.to_string(), reason: reason.to_owned() }
}

pub(crate) fn wanted_session(session: &Session) -> wire::WantedSession {
    let mut wanted = wire::WantedSession {
        session_id: session.id.to_string(),
        kind: wire::SessionKind::from(session.kind()).into(),
        device_thumbprint: session.device_key.as_bytes().to_vec(),
        user_email: session.email.clone(),
        ..Default::default()
    };
    if let Wanted::Intercept { service, ports, grace_s } = &session.wanted {
        wanted.service = Some(service.into());
        wanted.ports = ports.iter().map(Into::into).collect();
        wanted.grace_s = *grace_s;
    }
    wanted
}

pub(super) fn read_service(service: wire::CatalogueService) -> Result<Service, Unreadable> {
    let name = words::service(service.service.as_ref())?;
    if service.encoded_len() > SERVICE_MAX_BYTES {
        return Err(Unreadable::TooLarge { name: name.to_string() });
    }
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
        pods: service.pods.into_iter().filter_map(|pod| pod.parse().ok()).take(PODS_MAX).collect(),
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

pub(super) fn read_session_id(text: &str) -> Result<SessionId, Unreadable> {
    text.parse().map_err(|error| Unreadable::Session(format!("{error}")))
}

pub(super) fn shortened(text: &str) -> String {
    text.chars().take(DETAIL_MAX_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

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
    #[test]
    fn a_service_that_is_too_large_to_keep_is_refused_by_name() {
        let service = wire::CatalogueService {
            service: Some(wire::ServiceRef {
                namespace: "shop".to_owned(),
                name: "cart".to_owned(),
            }),
            labels: [("note".to_owned(), "x".repeat(SERVICE_MAX_BYTES))].into(),
            ..Default::default()
        };
        let refused = read_service(service).expect_err("too large").to_string();
        assert!(refused.contains("shop/cart"), "{refused}");
    }
}
