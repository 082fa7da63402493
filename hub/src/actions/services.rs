//! The catalogue as one caller sees it: with what they may do to each service, and who is doing what.

use std::collections::BTreeMap;

use fairlead_model::{
    Namespace, Phase, ServiceName, ServiceRef, SessionId, TeamspaceId, timers::INTERCEPT_GRACE,
};
use hub_policy::{
    Caller, Decider, TeamspaceFacts,
    actions::{Consume, Intercept, SeeService},
};
use hub_store::{Filter, Service, Session, Wanted};

use super::{ActionError, teamspaces};
use crate::Hub;

#[derive(Debug)]
pub struct ServiceSeen {
    pub service: Service,
    pub may_consume: bool,
    pub may_intercept: bool,
    pub intercepts: Vec<InterceptSeen>,
}

#[derive(Debug)]
pub struct InterceptSeen {
    pub session: SessionId,
    pub email: String,
    pub phase: Phase,
}

pub async fn list(
    hub: &Hub,
    caller: &Caller,
    teamspace: TeamspaceId,
) -> Result<Vec<ServiceSeen>, ActionError> {
    let facts = hub.facts(caller).await?;
    let teamspace = teamspaces::visible(hub, caller, teamspace, &facts).await?.facts();
    let scope = hub.store.scoped(caller.org);
    let live = Filter { only_live: true, teamspace: Some(teamspace.id), ..Filter::default() };
    let mut intercepts = intercepts_by_service(scope.sessions(live).await?);
    let services = scope.services(teamspace.id).await?;
    let mut decider = Decider::new(caller, &facts);
    let mut list = Vec::new();
    for service in services {
        if decider.would_permit(&SeeService { target: service.facts(&teamspace) }) {
            let intercepts = intercepts.remove(&service.service.to_string()).unwrap_or_default();
            list.push(seen(&mut decider, service, &teamspace, intercepts));
        }
    }
    Ok(list)
}

fn seen(
    decider: &mut Decider<'_>,
    service: Service,
    teamspace: &TeamspaceFacts,
    intercepts: Vec<InterceptSeen>,
) -> ServiceSeen {
    let target = service.facts(teamspace);
    let grace_s =
        u32::try_from(INTERCEPT_GRACE.as_secs()).expect("the grace is seconds, not years");
    let consume = Consume { target: target.clone(), ports: Vec::new() };
    let intercept = Intercept { target, ports: Vec::new(), grace_s };
    ServiceSeen {
        may_consume: decider.would_permit(&consume),
        may_intercept: decider.would_permit(&intercept),
        service,
        intercepts,
    }
}

fn intercepts_by_service(sessions: Vec<Session>) -> BTreeMap<String, Vec<InterceptSeen>> {
    let mut intercepts: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for session in sessions {
        let Wanted::Intercept { service, .. } = &session.wanted else { continue };
        intercepts.entry(service.to_string()).or_default().push(InterceptSeen {
            session: session.id,
            email: session.email,
            phase: session.phase,
        });
    }
    intercepts
}

/// Returns the names nearest to what was `wanted`, for "did you mean". A namespace that is not said fits each.
pub(super) fn similar(
    namespace: Option<&Namespace>,
    name: &ServiceName,
    services: &[Service],
) -> Vec<String> {
    const MOST: usize = 3;
    let distance = |known: &ServiceRef| {
        let of_name = near(name.as_str(), known.name.as_str())?;
        let Some(namespace) = namespace else { return Some(of_name) };
        match near(namespace.as_str(), known.namespace.as_str()) {
            Some(of_namespace) => Some(of_name + of_namespace),
            // In quite another namespace only the very same name can have been meant.
            None => (of_name == 0).then(|| name.as_str().len()),
        }
    };
    let mut near: Vec<_> = services
        .iter()
        .filter_map(|known| Some((distance(&known.service)?, known.service.to_string())))
        .collect();
    near.sort();
    near.truncate(MOST);
    near.into_iter().map(|(_, name)| name).collect()
}

/// Returns by how many slips two names differ, if it is at most one in three letters of the shorter: of short names
/// everything would be near.
fn near(wanted: &str, known: &str) -> Option<usize> {
    let slips = strsim::osa_distance(wanted, known);
    (slips <= wanted.len().min(known.len()) / 3).then_some(slips)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalogue(names: &[&str]) -> Vec<Service> {
        let service = |name: &&str| Service {
            service: name.parse().expect("a service"),
            kind: "ClusterIP".to_owned(),
            ports: Vec::new(),
            workload: None,
            ready_endpoints: 1,
            labels: BTreeMap::new(),
            intercept_refusal: None,
            pods: Vec::new(),
        };
        names.iter().map(service).collect()
    }

    fn near(wanted: &str, names: &[&str]) -> Vec<String> {
        let ServiceRef { namespace, name } = wanted.parse().expect("a service");
        similar(Some(&namespace), &name, &catalogue(names))
    }

    #[test]
    fn a_misspelt_name_finds_its_neighbour() {
        let names = ["shop/cart", "shop/catalog", "pay/ledger"];
        assert_eq!(near("shop/crat", &names), ["shop/cart"]);
        assert_eq!(near("shop/catalogue", &names), ["shop/catalog"]);
        assert_eq!(near("shpo/cart", &names), ["shop/cart"]);
        let anywhere = similar(None, &"leger".parse().expect("a name"), &catalogue(&names));
        assert_eq!(anywhere, ["pay/ledger"]);
    }

    #[test]
    fn a_wrong_namespace_finds_the_same_name_and_the_nearest_namespace_first() {
        assert_eq!(near("prod/cart", &["shop/cart", "pay/ledger"]), ["shop/cart"]);
        let two = near("shpo/cart", &["pay/cart", "shop/cart"]);
        assert_eq!(two, ["shop/cart", "pay/cart"]);
    }

    #[test]
    fn nothing_similar_is_nothing() {
        let names = ["shop/cart", "shop/catalog", "db/pg"];
        for wanted in ["other/thing", "nowhere/nothing", "shop/db", "db/pa"] {
            assert_eq!(near(wanted, &names), [""; 0], "{wanted}");
        }
    }
}
