//! The catalogue as one caller sees it: with what they may do to each service, and who is doing what.

use std::collections::BTreeMap;

use fairlead_model::{Phase, SessionId, TeamspaceId, timers::INTERCEPT_GRACE};
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
