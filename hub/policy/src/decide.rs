//! The decision. The only place in the program where a [`Permit`] is made.

use std::sync::LazyLock;

use crate::{
    Action, Caller, Denied, Facts, Policies, Role,
    actions::{SeeService, SeeSession, SeeTeamspace},
    entities::{self, Answer},
    explain,
    resource::Resource,
};

static BUILT_IN: LazyLock<Policies> = LazyLock::new(Policies::built_in);

/// Why a permit exists: which policies said yes, in which version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    pub policy_version: u64,
    pub policies: Vec<String>,
}

/// Proof that `caller` may do `action`. Whatever changes something asks for one.
#[derive(Clone, Debug)]
pub struct Permit<A> {
    action: A,
    caller: Caller,
    decision: Decision,
}

impl<A> Permit<A> {
    #[must_use]
    pub const fn action(&self) -> &A {
        &self.action
    }

    #[must_use]
    pub const fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Returns the organization in which the permit counts.
    #[must_use]
    pub const fn org(&self) -> fairlead_model::OrgId {
        self.caller.org
    }

    #[must_use]
    pub const fn decision(&self) -> &Decision {
        &self.decision
    }
}

/// One or more permits of one caller: what a session that covers several services needs.
#[derive(Clone, Debug)]
pub struct Permits<A>(Vec<Permit<A>>);

impl<A> Permits<A> {
    pub fn iter(&self) -> std::slice::Iter<'_, Permit<A>> {
        self.0.iter()
    }

    /// Returns the first; all of them are of the same caller.
    #[must_use]
    pub fn first(&self) -> &Permit<A> {
        self.0.first().expect("permits are never empty: `at_least_one` is their only source")
    }
}

impl<'p, A> IntoIterator for &'p Permits<A> {
    type Item = &'p Permit<A>;
    type IntoIter = std::slice::Iter<'p, Permit<A>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// An action that was refused, and why.
#[derive(Clone, Debug)]
pub struct Refused<A> {
    pub action: A,
    pub denied: Denied,
}

/// The outcome of many decisions at once.
#[derive(Clone, Debug)]
pub struct Decided<A> {
    permitted: Vec<Permit<A>>,
    pub refused: Vec<Refused<A>>,
}

/// The permits of many decisions, and what was refused beside them.
pub type SomePermitted<A> = (Permits<A>, Vec<Refused<A>>);

impl<A> Decided<A> {
    /// Returns the permits, or the refusals when there is no permit at all.
    pub fn at_least_one(self) -> Result<SomePermitted<A>, Vec<Refused<A>>> {
        if self.permitted.is_empty() {
            return Err(self.refused);
        }
        Ok((Permits(self.permitted), self.refused))
    }

    /// Returns the permits, possibly none.
    #[must_use]
    pub fn permitted(&self) -> &[Permit<A>] {
        &self.permitted
    }
}

/// Decides whether `caller` may do `action` under `facts`.
///
/// Default is no. A `forbid` wins over every `permit`, and a policy that cannot be evaluated is a no as well:
/// Cedar skips it, and a skipped `forbid` must never become a yes. Of what is an owner's way back the organization's own
/// policies are not asked at all, so that none of them can close it: by forbidding, later, or by failing.
pub fn decide<A: Action>(caller: &Caller, action: A, facts: &Facts) -> Result<Permit<A>, Denied> {
    match ask(caller, &action, facts) {
        Ok(decision) => Ok(Permit { action, caller: caller.clone(), decision }),
        Err(denied) => Err(denied),
    }
}

/// Decides every action by itself; one refusal does not touch the others.
pub fn decide_each<A: Action>(
    caller: &Caller,
    actions: impl IntoIterator<Item = A>,
    facts: &Facts,
) -> Decided<A> {
    let mut decided = Decided { permitted: Vec::new(), refused: Vec::new() };
    for action in actions {
        match ask(caller, &action, facts) {
            Ok(decision) => {
                decided.permitted.push(Permit { action, caller: caller.clone(), decision });
            }
            Err(denied) => decided.refused.push(Refused { action, denied }),
        }
    }
    decided
}

fn ask(caller: &Caller, action: &impl Action, facts: &Facts) -> Result<Decision, Denied> {
    let resource = action.resource(caller);
    if resource.org() != caller.org {
        return Err(Denied::invisible(action.in_words(), facts.policies.version()));
    }
    let way_back = action.is_owners_way_back() && caller.roles_everywhere().contains(&Role::Owner);
    let policies = if way_back { &*BUILT_IN } else { &*facts.policies };
    let answer = entities::evaluate(caller, action, &resource, facts, policies);
    match answer {
        Answer::Permitted { by } => {
            Ok(Decision { policy_version: facts.policies.version(), policies: by })
        }
        refusal => {
            let visible = may_see(caller, &resource, facts);
            Err(explain::denied(caller, action, &resource, refusal, visible, facts))
        }
    }
}

/// Says whether a refusal may admit that the resource exists.
fn may_see(caller: &Caller, resource: &Resource, facts: &Facts) -> bool {
    let permitted = |answer| matches!(answer, Answer::Permitted { .. });
    let policies = &*facts.policies;
    match resource {
        // One's own organization is no secret, and a device is named only in lists that were shown before.
        Resource::Organization(_) => true,
        Resource::Device { owner, .. } => *owner == caller.actor.user(),
        Resource::Teamspace(teamspace) => {
            let see = SeeTeamspace { teamspace: teamspace.clone() };
            permitted(entities::evaluate(caller, &see, resource, facts, policies))
        }
        Resource::Service(target) => {
            let see = SeeService { target: target.clone() };
            permitted(entities::evaluate(caller, &see, resource, facts, policies))
        }
        Resource::Session { id, owner, teamspace } => {
            let see = SeeSession { session: *id, owner: *owner, teamspace: teamspace.clone() };
            permitted(entities::evaluate(caller, &see, resource, facts, policies))
        }
    }
}
