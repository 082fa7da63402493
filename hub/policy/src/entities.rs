//! Cedar's side of a question: caller, action and resource as entities, and the engine's answer.
//!
//! Only the entities a question is about are built: the caller with the roles that count where the resource lies,
//! and the resource with what it lies in.

use std::{
    collections::{HashMap, HashSet},
    str::FromStr,
    sync::{Arc, LazyLock},
};

use cedar_policy::{
    Authorizer, Context, Decision as Effect, Entities, Entity, EntityId, EntityTypeName, EntityUid,
    PolicySet, Request, Response, RestrictedExpression,
};
use fairlead_model::TeamspaceId;

use crate::{
    Actor, Caller, Facts, HostFacts, Resource, ServiceFacts, TeamspaceFacts, Verb,
    actions::Particulars,
    policies::{Heads, SCHEMA},
    resource::OWNERS_LABEL,
};

/// What the engine said.
#[derive(Debug)]
pub(crate) enum Answer {
    Permitted {
        by: Vec<String>,
    },
    Forbidden {
        by: Vec<String>,
    },
    NobodyAllows,
    /// The question could not be put or a policy failed: a no, and a fault to be looked at.
    Failed {
        problem: String,
    },
}

/// Who asks, with the roles that count in one teamspace or outside of all.
#[derive(Debug)]
pub(crate) struct Principal {
    entity: Entity,
    with_ancestors: HashSet<EntityUid>,
}

impl Principal {
    pub(crate) fn of(caller: &Caller, teamspace: Option<TeamspaceId>) -> Self {
        let entity = principal(caller, teamspace);
        let parents = entity.clone().into_inner().2;
        let with_ancestors = parents.into_iter().chain(std::iter::once(entity.uid())).collect();
        Self { entity, with_ancestors }
    }
}

/// One question in Cedar's terms.
pub(crate) struct Question {
    principal: Arc<Principal>,
    verb: Verb,
    entities: Entities,
    request: Request,
    /// The resource first, then everything it lies in.
    resources: Vec<EntityUid>,
}

impl Question {
    pub(crate) fn new(
        principal: Arc<Principal>,
        verb: Verb,
        context: Context,
        resource: &Resource,
    ) -> Result<Self, String> {
        let chain = chain_of(resource)?;
        let resources: Vec<_> = chain.iter().map(Entity::uid).collect();
        let (who, what) = (principal.entity.uid(), resources[0].clone());
        let request = Request::new(who, action_uid(verb), what, context, Some(&SCHEMA))
            .map_err(|error| error.to_string())?;
        let entities = std::iter::once(principal.entity.clone()).chain(chain);
        let entities = Entities::from_entities(entities, Some(&SCHEMA))
            .map_err(|error| format!("{error:?}"))?;
        Ok(Self { principal, verb, entities, request, resources })
    }

    pub(crate) fn resources(&self) -> impl Iterator<Item = &EntityUid> {
        self.resources.iter()
    }

    pub(crate) fn heads(&self) -> Heads<'_> {
        Heads {
            principals: &self.principal.with_ancestors,
            actions: ancestors_of_action(&action_uid(self.verb)),
            resources: &self.resources,
        }
    }

    pub(crate) fn ask(&self, policies: &PolicySet) -> Answer {
        answer(&Authorizer::new().is_authorized(&self.request, policies, &self.entities))
    }
}

fn answer(response: &Response) -> Answer {
    let diagnostics = response.diagnostics();
    if let Some(error) = diagnostics.errors().next() {
        return Answer::Failed { problem: error.to_string() };
    }
    let mut by: Vec<_> = diagnostics.reason().map(ToString::to_string).collect();
    by.sort();
    match response.decision() {
        Effect::Allow => Answer::Permitted { by },
        Effect::Deny if by.is_empty() => Answer::NobodyAllows,
        Effect::Deny => Answer::Forbidden { by },
    }
}

macro_rules! entity_types {
    ($($name:ident),*) => {
        #[expect(non_snake_case, reason = "the names are those of the schema")]
        struct Types { $($name: EntityTypeName),* }

        static TYPES: LazyLock<Types> = LazyLock::new(|| Types {
            $($name: EntityTypeName::from_str(stringify!($name)).expect("an identifier")),*
        });
    };
}

entity_types!(
    Action,
    Organization,
    Role,
    Group,
    User,
    ServiceAccount,
    Teamspace,
    Namespace,
    Service,
    Host,
    Session,
    Device
);

fn uid(kind: &EntityTypeName, id: impl AsRef<str>) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(id))
}

pub(crate) fn action_uid(verb: Verb) -> EntityUid {
    uid(&TYPES.Action, verb.as_str())
}

static ACTIONS: LazyLock<Entities> =
    LazyLock::new(|| SCHEMA.action_entities().expect("the committed schema has no action cycle"));

fn ancestors_of_action(action: &EntityUid) -> HashSet<EntityUid> {
    let above = ACTIONS.ancestors(action).into_iter().flatten().cloned();
    above.chain(std::iter::once(action.clone())).collect()
}

/// Says whether the schema knows this kind of principal as one that does this. To ask about any other would be an error.
pub(crate) fn is_done_by(actor: &Actor, verb: Verb) -> bool {
    let kinds = SCHEMA.principals_for_action(&action_uid(verb));
    kinds.is_some_and(|mut kinds| kinds.any(|known| known == kind_of(actor)))
}

fn kind_of(actor: &Actor) -> &'static EntityTypeName {
    match actor {
        Actor::User { .. } => &TYPES.User,
        Actor::Service { .. } => &TYPES.ServiceAccount,
    }
}

fn principal(caller: &Caller, teamspace: Option<TeamspaceId>) -> Entity {
    let roles = caller.roles_in(teamspace);
    let roles = roles.into_iter().map(|role| uid(&TYPES.Role, role.as_str()));
    let (called, groups) = match &caller.actor {
        Actor::User { .. } => ("email", &caller.groups[..]),
        Actor::Service { .. } => ("name", &[][..]),
    };
    let groups = groups.iter().map(|group| uid(&TYPES.Group, group));
    let text = RestrictedExpression::new_string(caller.actor.email().to_owned());
    Entity::new(
        uid(kind_of(&caller.actor), caller.actor.user().to_string()),
        HashMap::from([(called.to_owned(), text)]),
        roles.chain(groups).collect(),
    )
    .expect("a string attribute cannot fail to evaluate")
}

/// Returns the resource first, then everything it lies in.
fn chain_of(resource: &Resource) -> Result<Vec<Entity>, String> {
    let organization =
        Entity::new_no_attrs(uid(&TYPES.Organization, resource.org().to_string()), HashSet::new());
    let mut chain = match resource {
        Resource::Organization(_) => vec![],
        Resource::Teamspace(teamspace) => vec![teamspace_entity(teamspace, &organization)],
        Resource::Service(target) => {
            let teamspace = teamspace_entity(&target.teamspace, &organization);
            let namespace = namespace_entity(target, &teamspace);
            vec![service_entity(target, &namespace)?, namespace, teamspace]
        }
        Resource::Host(target) => {
            let teamspace = teamspace_entity(&target.teamspace, &organization);
            vec![host_entity(target, &teamspace)?, teamspace]
        }
        Resource::Session { id, owner, teamspace } => {
            let teamspace = teamspace_entity(teamspace, &organization);
            let owner = owner_attribute(*owner);
            vec![entity(uid(&TYPES.Session, id.to_string()), owner, &teamspace)?, teamspace]
        }
        Resource::Device { id, owner, .. } => {
            let owner = owner_attribute(*owner);
            vec![entity(uid(&TYPES.Device, id.to_string()), owner, &organization)?]
        }
    };
    chain.push(organization);
    Ok(chain)
}

fn teamspace_entity(teamspace: &TeamspaceFacts, organization: &Entity) -> Entity {
    let parents = HashSet::from([organization.uid()]);
    Entity::new_no_attrs(uid(&TYPES.Teamspace, teamspace.name.as_str()), parents)
}

fn namespace_entity(target: &ServiceFacts, teamspace: &Entity) -> Entity {
    let name = format!("{}/{}", target.teamspace.name, target.service.namespace);
    Entity::new_no_attrs(uid(&TYPES.Namespace, name), HashSet::from([teamspace.uid()]))
}

fn service_entity(target: &ServiceFacts, namespace: &Entity) -> Result<Entity, String> {
    let labels = target.labels.iter().map(|(key, value)| format!("{key}={value}"));
    let labels = RestrictedExpression::new_set(labels.map(RestrictedExpression::new_string));
    let mut attributes = HashMap::from([("labels".to_owned(), labels)]);
    if let Some(owners) = target.labels.get(OWNERS_LABEL) {
        let owners = RestrictedExpression::new_entity_uid(uid(&TYPES.Group, owners));
        attributes.insert("owners".to_owned(), owners);
    }
    let name = format!("{}/{}", target.teamspace.name, target.service);
    entity(uid(&TYPES.Service, name), attributes, namespace)
}

fn host_entity(target: &HostFacts, teamspace: &Entity) -> Result<Entity, String> {
    let HostFacts { teamspace: of, host } = target;
    let name = RestrictedExpression::new_string(host.name.to_string());
    let port = RestrictedExpression::new_long(host.port.get().into());
    let attributes = HashMap::from([("host".to_owned(), name), ("port".to_owned(), port)]);
    entity(uid(&TYPES.Host, format!("{}/{host}", of.name)), attributes, teamspace)
}

fn owner_attribute(owner: fairlead_model::UserId) -> HashMap<String, RestrictedExpression> {
    let id = owner.to_string();
    let owner = RestrictedExpression::new_entity_uid(uid(&TYPES.User, &id));
    let account = RestrictedExpression::new_entity_uid(uid(&TYPES.ServiceAccount, &id));
    HashMap::from([("owner".to_owned(), owner), ("account".to_owned(), account)])
}

fn entity(
    uid: EntityUid,
    attributes: HashMap<String, RestrictedExpression>,
    parent: &Entity,
) -> Result<Entity, String> {
    Entity::new(uid, attributes, HashSet::from([parent.uid()])).map_err(|error| error.to_string())
}

/// Returns the circumstances of an action.
pub(crate) fn context(
    caller: &Caller,
    particulars: Particulars,
    facts: &Facts,
) -> Result<Context, String> {
    let now = facts.now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let mut pairs = vec![("now".to_owned(), RestrictedExpression::new_datetime(now))];
    if let Some(ip) = caller.from {
        pairs.push(("ip".to_owned(), RestrictedExpression::new_ip(ip.to_string())));
    }
    if let Some(age) = facts.mfa_age_s {
        pairs.push(("mfaAgeS".to_owned(), RestrictedExpression::new_long(age)));
    }
    match particulars {
        Particulars::None => {}
        Particulars::Intercept { header_filtered, grace_s } => {
            let filtered = RestrictedExpression::new_bool(header_filtered);
            pairs.push(("headerFiltered".to_owned(), filtered));
            pairs.push(("graceS".to_owned(), RestrictedExpression::new_long(grace_s)));
        }
        Particulars::Roles { touches_owner } => {
            let touches = RestrictedExpression::new_bool(touches_owner);
            pairs.push(("touchesOwner".to_owned(), touches));
        }
    }
    Context::from_pairs(pairs).map_err(|error| error.to_string())
}
