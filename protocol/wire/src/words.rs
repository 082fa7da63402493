//! The links' words for our nouns, and back. What comes from a peer is checked here; an `unspecified` is no word.

use fairlead_model::{
    InterceptPort, InvalidName, InvalidPort, Phase, Port, ServiceRef, SessionKind, Thumbprint,
};

use crate::link::v1;

/// A word of a peer that means nothing to us.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error("phase: none was given")]
    Phase,
    #[error("kind of session: none was given")]
    Kind,
    #[error("service: none was given")]
    NoService,
    #[error("service: {0}")]
    Service(#[from] InvalidName),
    #[error("port: {0}")]
    Port(#[from] InvalidPort),
    #[error("thumbprint: {bytes} bytes instead of 32")]
    Thumbprint { bytes: usize },
}

impl From<Phase> for v1::Phase {
    fn from(phase: Phase) -> Self {
        match phase {
            Phase::Preparing => Self::Preparing,
            Phase::Active => Self::Active,
            Phase::Away => Self::Away,
            Phase::Contested => Self::Contested,
            Phase::Refused => Self::Refused,
            Phase::Ended => Self::Ended,
        }
    }
}

impl TryFrom<v1::Phase> for Phase {
    type Error = Unreadable;

    fn try_from(phase: v1::Phase) -> Result<Self, Unreadable> {
        match phase {
            v1::Phase::Unspecified => Err(Unreadable::Phase),
            v1::Phase::Preparing => Ok(Self::Preparing),
            v1::Phase::Active => Ok(Self::Active),
            v1::Phase::Away => Ok(Self::Away),
            v1::Phase::Contested => Ok(Self::Contested),
            v1::Phase::Refused => Ok(Self::Refused),
            v1::Phase::Ended => Ok(Self::Ended),
        }
    }
}

impl From<SessionKind> for v1::SessionKind {
    fn from(kind: SessionKind) -> Self {
        match kind {
            SessionKind::Consume => Self::Consume,
            SessionKind::Intercept => Self::Intercept,
        }
    }
}

impl TryFrom<v1::SessionKind> for SessionKind {
    type Error = Unreadable;

    fn try_from(kind: v1::SessionKind) -> Result<Self, Unreadable> {
        match kind {
            v1::SessionKind::Unspecified => Err(Unreadable::Kind),
            v1::SessionKind::Consume => Ok(Self::Consume),
            v1::SessionKind::Intercept => Ok(Self::Intercept),
        }
    }
}

impl From<&ServiceRef> for v1::ServiceRef {
    fn from(service: &ServiceRef) -> Self {
        Self { namespace: service.namespace.to_string(), name: service.name.to_string() }
    }
}

impl TryFrom<&v1::ServiceRef> for ServiceRef {
    type Error = Unreadable;

    fn try_from(service: &v1::ServiceRef) -> Result<Self, Unreadable> {
        Ok(Self::parse_parts(&service.namespace, &service.name)?)
    }
}

/// Reads the service of a message that must name one.
pub fn service(named: Option<&v1::ServiceRef>) -> Result<ServiceRef, Unreadable> {
    named.ok_or(Unreadable::NoService)?.try_into()
}

impl From<&InterceptPort> for v1::InterceptPort {
    fn from(port: &InterceptPort) -> Self {
        Self {
            service_port: port.service_port.get().into(),
            laptop_port: port.laptop_port.get().into(),
        }
    }
}

impl TryFrom<&v1::InterceptPort> for InterceptPort {
    type Error = Unreadable;

    fn try_from(port: &v1::InterceptPort) -> Result<Self, Unreadable> {
        Ok(Self {
            service_port: Port::try_from(port.service_port)?,
            laptop_port: Port::try_from(port.laptop_port)?,
        })
    }
}

/// Reads the thumbprint of a key.
pub fn thumbprint(bytes: &[u8]) -> Result<Thumbprint, Unreadable> {
    let bytes = bytes.try_into().map_err(|_| Unreadable::Thumbprint { bytes: bytes.len() })?;
    Ok(Thumbprint::from_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_comes_back_as_it_was_said() {
        let phases = [
            Phase::Preparing,
            Phase::Active,
            Phase::Away,
            Phase::Contested,
            Phase::Refused,
            Phase::Ended,
        ];
        for phase in phases {
            assert_eq!(Phase::try_from(v1::Phase::from(phase)), Ok(phase));
        }
        for kind in [SessionKind::Consume, SessionKind::Intercept] {
            assert_eq!(SessionKind::try_from(v1::SessionKind::from(kind)), Ok(kind));
        }
        let cart: ServiceRef = "shop/cart".parse().expect("a service");
        assert_eq!(service(Some(&v1::ServiceRef::from(&cart))), Ok(cart));
        let port: InterceptPort = "3000:80".parse().expect("a mapping");
        let said = v1::InterceptPort::from(&port);
        assert_eq!((said.laptop_port, said.service_port), (3000, 80));
        assert_eq!(InterceptPort::try_from(&said), Ok(port));
    }

    #[test]
    fn what_means_nothing_is_not_taken_for_something() {
        assert_eq!(Phase::try_from(v1::Phase::Unspecified), Err(Unreadable::Phase));
        assert_eq!(SessionKind::try_from(v1::SessionKind::Unspecified), Err(Unreadable::Kind));
        assert_eq!(service(None), Err(Unreadable::NoService));
        let upper = v1::ServiceRef { namespace: "Shop".to_owned(), name: "cart".to_owned() };
        assert!(service(Some(&upper)).is_err());
        let port = v1::InterceptPort { service_port: 0, laptop_port: 3000 };
        assert!(InterceptPort::try_from(&port).is_err());
        assert_eq!(thumbprint(&[0; 31]), Err(Unreadable::Thumbprint { bytes: 31 }));
    }
}
