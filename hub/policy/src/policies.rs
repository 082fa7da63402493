//! The policies of one organization: the built-in ones and its own, validated and sliced by scope head.
//!
//! Only the scope line of a policy (principal, action, resource) decides whether it lies in a slice, never its
//! conditions; so a slice decides as the whole set would. A test below asks both.

use std::{
    collections::{HashMap, HashSet},
    str::FromStr,
    sync::LazyLock,
};

use cedar_policy::{
    ActionConstraint, EntityUid, Policy, PolicyId, PolicySet, PrincipalConstraint,
    ResourceConstraint, Schema, ValidationMode, Validator,
};
use serde::{Deserialize, Serialize};

const BUILT_IN: &str = include_str!("built_in.cedar");
/// Longest text of one policy.
const POLICY_MAX_BYTES: usize = 10_000;
/// Most policies of one organization.
const POLICIES_MAX: usize = 10_000;

pub(crate) static SCHEMA: LazyLock<Schema> = LazyLock::new(|| {
    Schema::from_cedarschema_str(include_str!("schema.cedarschema"))
        .expect("the committed schema parses: a unit test reads it")
        .0
});

static BUILT_IN_POLICIES: LazyLock<Vec<Policy>> = LazyLock::new(|| {
    parse(BUILT_IN).expect("the committed policies are valid: a unit test reads them")
});

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPolicies {
    #[error("policy `{id}`: {problem}")]
    Text { id: String, problem: String },
    #[error("policy `{id}` has the name of another policy")]
    Duplicate { id: String },
    #[error("policy `{id}` is longer than {POLICY_MAX_BYTES} bytes")]
    TooLong { id: String },
    #[error("more than {POLICIES_MAX} policies")]
    TooMany,
}

/// One policy of an organization as people write it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyText {
    /// Shown to whoever is refused by it.
    pub id: String,
    pub label: String,
    /// One Cedar policy, without `@id` and `@label`.
    pub text: String,
}

/// A validated set, ready to be asked.
#[derive(Debug)]
pub struct Policies {
    version: u64,
    all: Vec<Policy>,
    labels: HashMap<String, String>,
    /// Places in `all` by the resource of the scope line; `None` holds those that name no resource.
    by_resource: HashMap<Option<EntityUid>, Vec<usize>>,
}

impl Policies {
    /// Returns what every organization begins with.
    #[must_use]
    pub fn built_in() -> Self {
        Self::index(0, BUILT_IN_POLICIES.clone())
    }

    /// Checks an organization's own policies strictly and puts them beside the built-in ones.
    pub fn new(version: u64, own: &[PolicyText]) -> Result<Self, InvalidPolicies> {
        if own.len() > POLICIES_MAX {
            return Err(InvalidPolicies::TooMany);
        }
        let mut all = BUILT_IN_POLICIES.clone();
        let mut ids: HashSet<String> = all.iter().map(|p| p.id().to_string()).collect();
        for text in own {
            if !ids.insert(text.id.clone()) {
                return Err(InvalidPolicies::Duplicate { id: text.id.clone() });
            }
            all.push(parse_own(text)?);
        }
        validate(&all)?;
        let mut policies = Self::index(version, all);
        policies.labels.extend(own.iter().map(|text| (text.id.clone(), text.label.clone())));
        Ok(policies)
    }

    fn index(version: u64, all: Vec<Policy>) -> Self {
        let mut by_resource: HashMap<_, Vec<usize>> = HashMap::new();
        for (place, policy) in all.iter().enumerate() {
            by_resource.entry(resource_head(policy)).or_default().push(place);
        }
        let labels = all
            .iter()
            .map(|p| (p.id().to_string(), p.annotation("label").unwrap_or_default().to_owned()))
            .collect();
        Self { version, all, labels, by_resource }
    }

    /// Returns the version under which decisions are recorded.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.version
    }

    pub(crate) fn label(&self, id: &str) -> Option<&str> {
        self.labels.get(id).map(String::as_str).filter(|label| !label.is_empty())
    }

    /// Says whether a scope line names this resource.
    pub(crate) fn name(&self, resource: &EntityUid) -> bool {
        self.by_resource.contains_key(&Some(resource.clone()))
    }

    /// Returns the policies whose scope line can match; `principals`, `actions` and `resources` are each an entity
    /// and all its ancestors.
    pub(crate) fn slice(&self, heads: &Heads<'_>) -> PolicySet {
        PolicySet::from_policies(self.matching(heads).cloned())
            .expect("the ids were unique when the set was made")
    }

    fn matching<'p>(&'p self, heads: &'p Heads<'_>) -> impl Iterator<Item = &'p Policy> {
        let open = self.by_resource.get(&None).into_iter();
        let named = heads.resources.iter().filter_map(|r| self.by_resource.get(&Some(r.clone())));
        open.chain(named)
            .flatten()
            .map(|place| &self.all[*place])
            .filter(|policy| action_can_match(policy, &heads.actions))
            .filter(|policy| principal_can_match(policy, heads.principals))
    }

    /// Returns the policies that allow somebody this action on this resource.
    pub(crate) fn that_allow_somebody<'p>(
        &'p self,
        heads: &'p Heads<'_>,
    ) -> impl Iterator<Item = &'p Policy> {
        let open = self.by_resource.get(&None).into_iter();
        let named = heads.resources.iter().filter_map(|r| self.by_resource.get(&Some(r.clone())));
        open.chain(named)
            .flatten()
            .map(|place| &self.all[*place])
            .filter(|policy| policy.effect() == cedar_policy::Effect::Permit)
            .filter(|policy| action_can_match(policy, &heads.actions))
    }

    #[cfg(test)]
    fn whole(&self) -> PolicySet {
        PolicySet::from_policies(self.all.iter().cloned()).expect("unique")
    }
}

/// Each with all its ancestors: what a scope line can name and still match.
#[derive(Debug)]
pub(crate) struct Heads<'q> {
    pub(crate) principals: &'q HashSet<EntityUid>,
    pub(crate) actions: HashSet<EntityUid>,
    pub(crate) resources: &'q [EntityUid],
}

fn resource_head(policy: &Policy) -> Option<EntityUid> {
    match policy.resource_constraint() {
        ResourceConstraint::Any | ResourceConstraint::Is(_) => None,
        ResourceConstraint::In(uid)
        | ResourceConstraint::Eq(uid)
        | ResourceConstraint::IsIn(_, uid) => Some(uid),
    }
}

fn action_can_match(policy: &Policy, actions: &HashSet<EntityUid>) -> bool {
    match policy.action_constraint() {
        ActionConstraint::Any => true,
        ActionConstraint::Eq(uid) => actions.contains(&uid),
        ActionConstraint::In(uids) => uids.iter().any(|uid| actions.contains(uid)),
    }
}

fn principal_can_match(policy: &Policy, principals: &HashSet<EntityUid>) -> bool {
    match policy.principal_constraint() {
        PrincipalConstraint::Any | PrincipalConstraint::Is(_) => true,
        PrincipalConstraint::In(uid)
        | PrincipalConstraint::Eq(uid)
        | PrincipalConstraint::IsIn(_, uid) => principals.contains(&uid),
    }
}

/// Reads a file of policies that carry their names in `@id`.
fn parse(text: &str) -> Result<Vec<Policy>, InvalidPolicies> {
    let set = PolicySet::from_str(text).map_err(|error| InvalidPolicies::Text {
        id: "built-in".to_owned(),
        problem: error.to_string(),
    })?;
    let mut policies: Vec<_> = set
        .policies()
        .map(|policy| {
            let id = policy.annotation("id").unwrap_or_default().to_owned();
            policy.new_id(PolicyId::new(id))
        })
        .collect();
    policies.sort_by(|a, b| a.id().cmp(b.id()));
    validate(&policies)?;
    Ok(policies)
}

fn parse_own(text: &PolicyText) -> Result<Policy, InvalidPolicies> {
    if text.text.len() > POLICY_MAX_BYTES {
        return Err(InvalidPolicies::TooLong { id: text.id.clone() });
    }
    Policy::parse(Some(PolicyId::new(&text.id)), &text.text)
        .map_err(|error| InvalidPolicies::Text { id: text.id.clone(), problem: error.to_string() })
}

/// Validates strictly: a policy that could fail at evaluation is refused when it is saved.
fn validate(policies: &[Policy]) -> Result<(), InvalidPolicies> {
    let set = PolicySet::from_policies(policies.iter().cloned()).map_err(|error| {
        InvalidPolicies::Text { id: "the set".to_owned(), problem: error.to_string() }
    })?;
    let result = Validator::new(SCHEMA.clone()).validate(&set, ValidationMode::Strict);
    match result.validation_errors().next() {
        None => Ok(()),
        Some(error) => Err(InvalidPolicies::Text {
            id: error.policy_id().to_string(),
            problem: error.to_string(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use fairlead_model::{OrgId, TeamspaceId, UserId};
    use proptest::prelude::*;

    use super::*;
    use crate::{
        Action, Actor, Caller, Facts, HostFacts, Role, RoleBinding, ServiceFacts, TeamspaceFacts,
        actions::{Consume, Intercept, ReachExternal, SeeService},
        asking::Asking,
        entities::Answer,
    };

    const PRINCIPALS: [&str; 4] = [
        "principal",
        r#"principal in Role::"developer""#,
        r#"principal in Group::"g""#,
        "principal is User",
    ];
    const ACTIONS: [&str; 4] = [
        "action",
        r#"action == Action::"consume""#,
        r#"action in Action::"use""#,
        r#"action in [Action::"see", Action::"intercept"]"#,
    ];
    const RESOURCES: [&str; 6] = [
        "resource",
        r#"resource in Teamspace::"staging""#,
        r#"resource in Namespace::"staging/a""#,
        r#"resource == Service::"staging/a/x""#,
        r#"resource is Service in Namespace::"staging/b""#,
        r#"resource in Teamspace::"production""#,
    ];

    fn any_policy() -> impl Strategy<Value = String> {
        let effect = prop_oneof![Just("permit"), Just("forbid")];
        let of = |all: &'static [&'static str]| prop::sample::select(all);
        (effect, of(&PRINCIPALS), of(&ACTIONS), of(&RESOURCES))
            .prop_map(|(effect, p, a, r)| format!("{effect}({p}, {a}, {r});"))
    }

    fn said(answer: Answer) -> (bool, Vec<String>) {
        match answer {
            Answer::Permitted { by } => (true, by),
            Answer::Forbidden { by } => (false, by),
            Answer::NobodyAllows => (false, vec![]),
            Answer::Failed { problem } => panic!("{problem}"),
        }
    }

    fn slice_says_what_the_whole_says(asking: &mut Asking<'_>, action: &impl Action) {
        let resource = action.resource(asking.caller);
        let slice = asking.evaluate(action, &resource);
        let question = asking.question(action, &resource).expect("a valid question");
        let whole = question.ask(&asking.facts.policies.whole());
        assert_eq!(said(slice), said(whole), "{action:?}");
    }

    proptest! {
        #[test]
        fn a_slice_decides_as_the_whole_set_does(
            texts in prop::collection::vec(any_policy(), 0..8),
            role in prop::option::of(prop::sample::select(&Role::ALL[..])),
            in_group: bool,
            role_is_of_one: bool,
        ) {
            let own: Vec<_> = texts.into_iter().enumerate().map(|(n, text)| PolicyText {
                id: format!("p{n}"),
                label: String::new(),
                text,
            }).collect();
            let org = OrgId::generate();
            let facts = Facts {
                now: jiff::Timestamp::UNIX_EPOCH,
                mfa_age_s: None,
                policies: Arc::new(Policies::new(1, &own).expect("valid")),
            };
            let teamspace = |name: &str| TeamspaceFacts {
                org,
                id: TeamspaceId::generate(),
                name: name.parse().expect("a name"),
            };
            let teamspaces = [teamspace("staging"), teamspace("production")];
            // Asked about last: what was made for the other one lacks the policies of the role.
            let only_there = role_is_of_one.then_some(teamspaces[1].id);
            let caller = Caller {
                org,
                actor: Actor::User { id: UserId::generate(), email: "ada@example.test".to_owned() },
                roles: role.map(|role| RoleBinding { role, teamspace: only_there }).into_iter().collect(),
                groups: in_group.then(|| "g".to_owned()).into_iter().collect(),
                from: None,
            };
            // One after the other, as a list asks: each takes what the ones before it have made.
            let mut asking = Asking::new(&caller, &facts);
            for teamspace in &teamspaces {
                let host = "db.example.net:5432".parse().expect("a host");
                let target = HostFacts { teamspace: teamspace.clone(), host };
                slice_says_what_the_whole_says(&mut asking, &ReachExternal { target });
                for service in ["a/x", "a/y", "b/x"] {
                    let target = ServiceFacts {
                        teamspace: teamspace.clone(),
                        service: service.parse().expect("a service"),
                        labels: BTreeMap::new(),
                    };
                    let consume = Consume { target: target.clone(), ports: vec![] };
                    let intercept = Intercept { target: target.clone(), ports: vec![], grace_s: 15 };
                    slice_says_what_the_whole_says(&mut asking, &consume);
                    slice_says_what_the_whole_says(&mut asking, &intercept);
                    slice_says_what_the_whole_says(&mut asking, &SeeService { target });
                }
            }
        }
    }
}
