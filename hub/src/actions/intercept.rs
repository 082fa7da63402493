//! Intercept: one developer gets a service's requests, after everything that speaks against it has been looked at.

use fairlead_model::{
    DeviceId, InterceptPort, ServiceRef, TeamspaceId, similar,
    timers::{INTERCEPT_GRACE, INTERCEPT_GRACE_MAX},
};
use hub_policy::{
    Caller, Decider, Facts,
    actions::{Intercept, SeeService},
};
use hub_store::{
    Beginning, Filter, Granted, ONE_INTERCEPT, Service, Session, StoreError, Teamspace, Wanted,
};

use super::{ActionError, sessions, teamspaces};
use crate::Hub;

/// What somebody asks for.
#[derive(Debug)]
pub struct InterceptAsked {
    pub teamspace: TeamspaceId,
    pub device: DeviceId,
    pub service: ServiceRef,
    pub ports: Vec<InterceptPort>,
    pub grace_s: Option<u32>,
}

#[derive(Debug)]
pub struct InterceptBegun {
    pub session: Session,
    pub grant: String,
    pub granted: Granted,
}

/// Begins an intercept session. The cluster's agent reads of it as something that should be, and makes it so.
pub async fn begin(
    hub: &Hub,
    caller: &Caller,
    asked: InterceptAsked,
) -> Result<InterceptBegun, ActionError> {
    let facts = hub.facts(caller).await?;
    let teamspace = teamspaces::visible(hub, caller, asked.teamspace, &facts).await?;
    sessions::must_be_open(&teamspace)?;
    sessions::own_device(hub, caller, asked.device).await?;
    let grace_s = grace(asked.grace_s)?;
    let service = known(hub, caller, &teamspace, &asked.service, &facts).await?;
    let ports = asked.ports.clone();
    let intercept = Intercept { target: service.facts(&teamspace.facts()), ports, grace_s };
    let permit = hub.decide(caller, intercept, &facts).await?;
    must_be_interceptable(&service, &asked.ports)?;
    let beginning = Beginning {
        device: asked.device,
        teamspace: teamspace.id,
        begun_from: caller.from.map(|ip| ip.to_string()),
    };
    let session = match hub.store.begin_intercept(&permit, &beginning, hub.clock.now()).await {
        Ok(session) => session,
        Err(StoreError::Conflict { constraint }) if constraint == ONE_INTERCEPT => {
            return Err(taken(hub, caller, &teamspace, &asked.service).await);
        }
        Err(error) => return Err(error.into()),
    };
    let granted = hub.store.scoped(caller.org).granted(session.id).await?;
    let grant = hub.mint(&session, &granted, facts.policies.version()).await?;
    tracing::info!(session = %session.id, teamspace = %teamspace.name, service = %asked.service, "Intercept began");
    Ok(InterceptBegun { session, grant, granted })
}

fn grace(asked: Option<u32>) -> Result<u32, ActionError> {
    let max = INTERCEPT_GRACE_MAX.as_secs();
    let grace = asked.map_or(INTERCEPT_GRACE.as_secs(), u64::from);
    if grace > max {
        return Err(ActionError::invalid(format!(
            "a grace of {grace} s is too long: at most {max} s"
        )));
    }
    Ok(u32::try_from(grace).expect("it is at most 300"))
}

/// Finds the service, or says which names are near. A service the caller may not see is not there.
async fn known(
    hub: &Hub,
    caller: &Caller,
    teamspace: &Teamspace,
    wanted: &ServiceRef,
    facts: &Facts,
) -> Result<Service, ActionError> {
    let mut catalogue = hub.store.scoped(caller.org).services(teamspace.id).await?;
    let mut decider = Decider::new(caller, facts);
    let mut may_see = |service: &Service| {
        decider.would_permit(&SeeService { target: service.facts(&teamspace.facts()) })
    };
    let place = catalogue.iter().position(|service| service.service == *wanted);
    if let Some(place) = place.filter(|place| may_see(&catalogue[*place])) {
        return Ok(catalogue.swap_remove(place));
    }
    catalogue.retain(may_see);
    let seen = catalogue.iter().map(|service| &service.service);
    let near = similar(Some(&wanted.namespace), &wanted.name, seen);
    let near: Vec<_> = near.iter().map(|name| format!("`{name}`")).collect();
    Err(ActionError::NotFound {
        message: format!(
            "there is no service `{wanted}` in teamspace `{}` that you may see",
            teamspace.name
        ),
        hint: Some(if near.is_empty() {
            "list them: fairlead services".to_owned()
        } else {
            format!("similar: {}", near.join(", "))
        }),
    })
}

fn must_be_interceptable(service: &Service, ports: &[InterceptPort]) -> Result<(), ActionError> {
    if let Some(refusal) = &service.intercept_refusal {
        return Err(ActionError::Conflict {
            // A whole sentence of the agent's, which knows the Service.
            message: refusal.clone(),
            hint: None,
        });
    }
    if service.tcp_ports().next().is_none() {
        return Err(ActionError::Conflict {
            message: format!("`{}` has no TCP port that could be taken over", service.service),
            hint: Some("intercept a service with TCP ports: fairlead services".to_owned()),
        });
    }
    if ports.is_empty() {
        return Err(ActionError::invalid("no port is named: say at least one"));
    }
    let mut seen = Vec::new();
    for mapped in ports {
        if seen.contains(&mapped.service_port) {
            let message = format!("port {} is named twice", mapped.service_port);
            return Err(ActionError::invalid(message));
        }
        if !service.tcp_ports().any(|port| port == mapped.service_port) {
            let known: Vec<_> = service.tcp_ports().map(|port| port.to_string()).collect();
            return Err(ActionError::Invalid {
                message: format!("`{}` has no TCP port {}", service.service, mapped.service_port),
                hint: Some(format!("its TCP ports: {}", known.join(", "))),
            });
        }
        seen.push(mapped.service_port);
    }
    Ok(())
}

/// Names whoever has the service already.
async fn taken(
    hub: &Hub,
    caller: &Caller,
    teamspace: &Teamspace,
    service: &ServiceRef,
) -> ActionError {
    let live = Filter { only_live: true, teamspace: Some(teamspace.id), ..Filter::default() };
    let sessions = match hub.store.scoped(caller.org).sessions(live).await {
        Ok(sessions) => sessions,
        Err(error) => return error.into(),
    };
    let holder = sessions.iter().find(
        |session| matches!(&session.wanted, Wanted::Intercept { service: held, .. } if held == service),
    );
    match holder {
        Some(holder) if holder.user == caller.actor.user() => ActionError::Conflict {
            message: format!("you intercept `{service}` already, from {}", holder.device_name),
            hint: Some(format!("end it first: fairlead leave {}", holder.id)),
        },
        Some(holder) => ActionError::Conflict {
            message: format!("`{service}` is intercepted by {}", holder.email),
            hint: Some(format!("ask {} to leave it, or consume it", holder.email)),
        },
        None => ActionError::Conflict {
            message: format!("`{service}` was intercepted by somebody else until just now"),
            hint: Some("try again".to_owned()),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use fairlead_model::{Port, Protocol};
    use hub_store::PortOfService;

    use super::*;

    fn cart(refusal: Option<&str>) -> Service {
        let port = |number, protocol| PortOfService {
            name: String::new(),
            port: Port::new(number).expect("not 0"),
            protocol,
            target_port: "8080".to_owned(),
            app_protocol: String::new(),
        };
        Service {
            service: "shop/cart".parse().expect("a service"),
            kind: "ClusterIP".to_owned(),
            ports: vec![port(80, Protocol::Tcp), port(53, Protocol::Udp)],
            workload: None,
            ready_endpoints: 1,
            labels: BTreeMap::new(),
            intercept_refusal: refusal.map(str::to_owned),
            pods: Vec::new(),
        }
    }

    fn refusal_of(service: &Service, ports: &[&str]) -> String {
        let ports: Vec<_> = ports.iter().map(|p| p.parse().expect("laptop:service")).collect();
        must_be_interceptable(service, &ports).expect_err("refused").to_string()
    }

    #[test]
    fn only_a_tcp_port_of_the_service_can_be_taken() {
        let ports = ["3000:80".parse().expect("a mapping")];
        assert!(must_be_interceptable(&cart(None), &ports).is_ok());
        assert!(refusal_of(&cart(None), &["3000:81"]).contains("no TCP port 81"));
        assert!(refusal_of(&cart(None), &["3000:53"]).contains("no TCP port 53"));
        assert!(refusal_of(&cart(None), &["3000:80", "3001:80"]).contains("twice"));
        assert!(refusal_of(&cart(None), &[]).contains("no port"));
        let udp = Service { ports: cart(None).ports.split_off(1), ..cart(None) };
        assert!(refusal_of(&udp, &[]).contains("no TCP port that"));
    }

    #[test]
    fn what_the_cluster_says_cannot_be_intercepted_is_refused_in_its_words() {
        let words = "shop/cart cannot be intercepted: it has no selector.";
        assert_eq!(refusal_of(&cart(Some(words)), &["3000:80"]), words);
    }

    #[test]
    fn a_grace_has_a_default_and_a_limit() {
        assert_eq!(grace(None).expect("the default"), 15);
        assert_eq!(grace(Some(0)).expect("none at all"), 0);
        assert!(grace(Some(301)).is_err());
    }
}
