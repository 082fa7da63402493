//! Which services a session was granted, in the daemon's form.

use fairlead_model::{Port, ServiceRef};
use fairlead_wire::grant;
use laptop_account::GrantedService;

/// Reads the services out of a grant; `None` when it is not readable. The agent verifies it, we only want to know the
/// names.
pub(crate) fn services_in(jwt: &str) -> Option<Vec<(ServiceRef, Vec<Port>)>> {
    let granted = grant::unverified_services(jwt).ok()?;
    Some(granted.into_iter().map(|granted| (granted.service, granted.ports)).collect())
}

/// Returns the services as the hub's answer names them.
pub(crate) fn services_of(granted: Vec<GrantedService>) -> Vec<(ServiceRef, Vec<Port>)> {
    let service =
        |granted: GrantedService| (ServiceRef::new(granted.namespace, granted.name), granted.ports);
    granted.into_iter().map(service).collect()
}
