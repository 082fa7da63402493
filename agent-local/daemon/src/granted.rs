//! What a session was granted, in the daemon's form.

use fairlead_model::{Patterns, Port, ServiceRef};
use fairlead_wire::grant::{self, Unverified};
use laptop_account::GrantedService;

/// Services, each with the ports that may be reached.
pub(crate) type Services = Vec<(ServiceRef, Vec<Port>)>;

/// A grant as the hub sent it.
#[derive(Debug)]
pub(crate) struct Granted {
    pub(crate) jwt: String,
    /// `None` where they cannot be read. The agent verifies the grant, we only want to know the names.
    pub(crate) services: Option<Services>,
    /// Consumes: what they are about by now; `None` where nothing is said of it.
    pub(crate) patterns: Option<Patterns>,
}

impl Granted {
    /// Reads what came over the link.
    pub(crate) fn heard(jwt: String, words: &[String]) -> Self {
        let services = grant::unverified(&jwt).ok().map(|read| {
            read.services.into_iter().map(|granted| (granted.service, granted.ports)).collect()
        });
        let words: Result<Vec<_>, _> = words.iter().map(|word| word.parse()).collect();
        let patterns = words.and_then(Patterns::new).ok();
        Self { jwt, services, patterns }
    }

    /// Says whether it was decided before the one that is held: what the hub answers and what it says over the link may
    /// overtake each other.
    pub(crate) fn is_older_than(&self, held: &str) -> bool {
        let id = |jwt| grant::unverified(jwt).ok().map(|Unverified { id, .. }| id);
        matches!((id(&self.jwt), id(held)), (Some(this), Some(held)) if this < held)
    }
}

/// Returns the services as the hub's answer names them.
pub(crate) fn services_of(granted: Vec<GrantedService>) -> Services {
    let service =
        |granted: GrantedService| (ServiceRef::new(granted.namespace, granted.name), granted.ports);
    granted.into_iter().map(service).collect()
}
