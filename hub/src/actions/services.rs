//! The catalogue as one caller sees it: with what they may do to each service, and who is doing what.

use std::collections::BTreeMap;

use fairlead_model::{Phase, SessionId, TeamspaceId, timers::INTERCEPT_GRACE};
use hub_policy::{
    Caller, Facts, TeamspaceFacts,
    actions::{Consume, Intercept, SeeService},
    decide,
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
    let live = Filter { only_live: true, teamspace: Some(teamspace.id), device: None };
    let mut intercepts = intercepts_by_service(scope.sessions(live).await?);
    let services = scope.services(teamspace.id).await?.into_iter();
    Ok(services
        .filter(|service| {
            decide(caller, SeeService { target: service.facts(&teamspace) }, &facts).is_ok()
        })
        .map(|service| {
            let intercepts = intercepts.remove(&service.service.to_string()).unwrap_or_default();
            seen(caller, service, &teamspace, intercepts, &facts)
        })
        .collect())
}

fn seen(
    caller: &Caller,
    service: Service,
    teamspace: &TeamspaceFacts,
    intercepts: Vec<InterceptSeen>,
    facts: &Facts,
) -> ServiceSeen {
    let target = service.facts(teamspace);
    let grace_s =
        u32::try_from(INTERCEPT_GRACE.as_secs()).expect("the grace is seconds, not years");
    let consume = Consume { target: target.clone(), ports: Vec::new() };
    let intercept = Intercept { target, ports: Vec::new(), grace_s };
    ServiceSeen {
        may_consume: decide(caller, consume, facts).is_ok(),
        may_intercept: decide(caller, intercept, facts).is_ok(),
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

/// Returns the names nearest to `wanted`, for "did you mean".
pub(super) fn similar(wanted: &str, services: &[Service]) -> Vec<String> {
    const MOST: usize = 3;
    let own_name = |full: &str| full.rsplit('/').next().unwrap_or(full).to_owned();
    let mut near: Vec<_> = services
        .iter()
        .map(|service| service.service.to_string())
        .filter_map(|name| {
            let whole = strsim::levenshtein(wanted, &name);
            let short = strsim::levenshtein(&own_name(wanted), &own_name(&name));
            let nearest = whole.min(short);
            (nearest <= wanted.len() / 3).then_some((nearest, name))
        })
        .collect();
    near.sort();
    near.truncate(MOST);
    near.into_iter().map(|(_, name)| name).collect()
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
        };
        names.iter().map(service).collect()
    }

    #[test]
    fn a_misspelt_name_finds_its_neighbour() {
        let services = catalogue(&["shop/cart", "shop/catalog", "pay/ledger"]);
        assert_eq!(similar("shop/crat", &services)[0], "shop/cart");
    }

    #[test]
    fn a_wrong_namespace_finds_the_same_name() {
        let services = catalogue(&["shop/cart", "pay/ledger"]);
        assert_eq!(similar("prod/cart", &services), ["shop/cart"]);
    }

    #[test]
    fn nothing_similar_is_nothing() {
        assert!(similar("other/thing", &catalogue(&["shop/cart"])).is_empty());
    }
}
