//! Consume: from the words a developer wrote to a session, its grant, and the reasons for what was refused.

use fairlead_model::{DeviceId, Patterns, Port, TeamspaceId};
use hub_policy::{Caller, Decided, Facts, Refused, TeamspaceFacts, actions::Consume, decide_each};
use hub_store::{Beginning, Granted, Service, Session, Teamspace};

use super::{ActionError, services::similar, sessions, teamspaces};
use crate::Hub;

/// What somebody asks for.
#[derive(Debug)]
pub struct ConsumeAsked {
    pub teamspace: TeamspaceId,
    pub device: DeviceId,
    pub patterns: Patterns,
}

#[derive(Debug)]
pub struct ConsumeBegun {
    pub session: Session,
    pub grant: String,
    pub services: Vec<Granted>,
    pub refused: Vec<Refused<Consume>>,
}

/// Begins a consume session: decides for every service that matches, and says which were refused and why.
///
/// The decisions are recorded in the transaction that creates the session, so neither exists without the other.
pub async fn begin(
    hub: &Hub,
    caller: &Caller,
    asked: ConsumeAsked,
) -> Result<ConsumeBegun, ActionError> {
    let facts = hub.facts(caller).await?;
    let teamspace = teamspaces::visible(hub, caller, asked.teamspace, &facts).await?;
    sessions::must_be_open(&teamspace)?;
    sessions::own_device(hub, caller, asked.device).await?;
    let catalogue = hub.store.scoped(caller.org).services(teamspace.id).await?;
    let decided = decide_matching(caller, &asked.patterns, &catalogue, &teamspace.facts(), &facts);
    let (permits, refused) = match decided.at_least_one() {
        Ok(decided) => decided,
        Err(refused) => {
            return Err(none_allowed(hub, caller, &asked, &teamspace, &catalogue, refused).await);
        }
    };
    let beginning = Beginning {
        device: asked.device,
        teamspace: teamspace.id,
        begun_from: caller.from.map(|ip| ip.to_string()),
    };
    let visible = sessions::only_visible(refused);
    let session = hub
        .store
        .begin_consume(&permits, &visible, &asked.patterns, &beginning, hub.clock.now())
        .await?;
    let services = hub.store.scoped(caller.org).granted(session.id).await?;
    let grant = hub.mint(&session, &services, facts.policies.version()).await?;
    tracing::info!(session = %session.id, teamspace = %teamspace.name, services = services.len(), "Consume began");
    Ok(ConsumeBegun { session, grant, services, refused: visible })
}

/// Decides for every service of the catalogue that the patterns want.
pub(super) fn decide_matching(
    caller: &Caller,
    patterns: &Patterns,
    catalogue: &[Service],
    teamspace: &TeamspaceFacts,
    facts: &Facts,
) -> Decided<Consume> {
    let wanted = catalogue.iter().filter_map(|service| {
        let ports: Vec<Port> =
            service.tcp_ports().filter(|port| patterns.want(&service.service, *port)).collect();
        (!ports.is_empty()).then(|| Consume { target: service.facts(teamspace), ports })
    });
    decide_each(caller, wanted, facts)
}

/// Says why there is nothing to consume: refused, or not there.
async fn none_allowed(
    hub: &Hub,
    caller: &Caller,
    asked: &ConsumeAsked,
    teamspace: &Teamspace,
    catalogue: &[Service],
    refused: Vec<Refused<Consume>>,
) -> ActionError {
    let refused = sessions::only_visible(refused);
    if let Some(first) = refused.first() {
        let action = format!("consume {}", first.action.target.service);
        return match sessions::record_refusal(hub, caller, &action, &first.denied).await {
            Ok(()) => first.denied.clone().into(),
            Err(error) => error,
        };
    }
    let words: Vec<_> = asked.patterns.iter().map(|p| format!("`{p}`")).collect();
    let named: Vec<_> = asked.patterns.iter().filter_map(|p| p.names_one()).collect();
    let near = named.iter().flat_map(|name| similar(&name.to_string(), catalogue));
    let near: Vec<_> = near.map(|name| format!("`{name}`")).collect();
    ActionError::NotFound {
        message: format!(
            "no service of teamspace `{}` matches {}",
            teamspace.name,
            words.join(", ")
        ),
        hint: (!near.is_empty()).then(|| format!("similar: {}", near.join(", "))),
    }
}
