//! The decision. The only place in the program where a [`Permit`] is made.

use std::sync::{Arc, LazyLock};

use crate::{
    Action, Caller, Denied, Facts, HostFacts, Policies, Role,
    actions::{SeeService, SeeSession, SeeTeamspace},
    asking::Asking,
    entities::Answer,
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
    caller: Arc<Caller>,
    decision: Decision,
}

impl<A> Permit<A> {
    #[must_use]
    pub const fn action(&self) -> &A {
        &self.action
    }

    #[must_use]
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Returns the organization in which the permit counts.
    #[must_use]
    pub fn org(&self) -> fairlead_model::OrgId {
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
    Decider::new(caller, facts).decide(action)
}

/// Decides every action by itself; one refusal does not touch the others.
pub fn decide_each<A: Action>(
    caller: &Caller,
    actions: impl IntoIterator<Item = A>,
    facts: &Facts,
) -> Decided<A> {
    let mut decider = Decider::new(caller, facts);
    let mut decided = Decided { permitted: Vec::new(), refused: Vec::new() };
    for action in actions {
        match decider.ask(&action) {
            Ok(decision) => decided.permitted.push(decider.permit(action, decision)),
            Err(denied) => decided.refused.push(Refused { action, denied }),
        }
    }
    decided
}

/// Decides one question of a caller after the other, as [`decide()`] does each, and sooner: what they have in common is
/// made once.
#[derive(Debug)]
pub struct Decider<'f> {
    asking: Asking<'f>,
    caller: Arc<Caller>,
}

impl<'f> Decider<'f> {
    #[must_use]
    pub fn new(caller: &'f Caller, facts: &'f Facts) -> Self {
        Self { asking: Asking::new(caller, facts), caller: Arc::new(caller.clone()) }
    }

    pub fn decide<A: Action>(&mut self, action: A) -> Result<Permit<A>, Denied> {
        let decision = self.ask(&action)?;
        Ok(self.permit(action, decision))
    }

    /// Says whether it would be permitted, for lists that show it and give no reasons.
    pub fn would_permit(&mut self, action: &impl Action) -> bool {
        let resource = action.resource(self.asking.caller);
        matches!(self.judge(action, &resource), Some(Answer::Permitted { .. }))
    }

    fn permit<A>(&self, action: A, decision: Decision) -> Permit<A> {
        Permit { action, caller: Arc::clone(&self.caller), decision }
    }

    fn ask(&mut self, action: &impl Action) -> Result<Decision, Denied> {
        let resource = action.resource(self.asking.caller);
        let policy_version = self.asking.facts.policies.version();
        match self.judge(action, &resource) {
            None => Err(Denied::invisible(action.in_words(), policy_version)),
            Some(Answer::Permitted { by }) => Ok(Decision { policy_version, policies: by }),
            Some(refusal) => {
                let visible = may_see(&mut self.asking, &resource);
                Err(explain::denied(&mut self.asking, action, &resource, refusal, visible))
            }
        }
    }

    /// Returns what policies say; `None` when it is about another organization, of which they are not asked.
    fn judge(&mut self, action: &impl Action, resource: &Resource) -> Option<Answer> {
        let caller = self.asking.caller;
        if resource.org() != caller.org {
            return None;
        }
        let is_owner = || caller.roles_everywhere().contains(&Role::Owner);
        if action.is_owners_way_back() && is_owner() {
            return Some(self.asking.evaluate_by(&BUILT_IN, action, resource));
        }
        Some(self.asking.evaluate(action, resource))
    }
}

/// Says whether a refusal may admit that the resource exists.
fn may_see(asking: &mut Asking<'_>, resource: &Resource) -> bool {
    let permitted = |answer| matches!(answer, Answer::Permitted { .. });
    match resource {
        // One's own organization is no secret, and a device is named only in lists that were shown before.
        Resource::Organization(_) => true,
        Resource::Device { owner, .. } => *owner == asking.caller.actor.user(),
        Resource::Teamspace(teamspace) => {
            let see = SeeTeamspace { teamspace: teamspace.clone() };
            permitted(asking.evaluate(&see, resource))
        }
        // The caller has named it: what there is to hide is whose cluster it would be reached through.
        Resource::Host(HostFacts { teamspace, .. }) => {
            let see = SeeTeamspace { teamspace: teamspace.clone() };
            permitted(asking.evaluate(&see, &Resource::Teamspace(teamspace.clone())))
        }
        Resource::Service(target) => {
            let see = SeeService { target: target.clone() };
            permitted(asking.evaluate(&see, resource))
        }
        Resource::Session { id, owner, teamspace } => {
            let see = SeeSession { session: *id, owner: *owner, teamspace: teamspace.clone() };
            permitted(asking.evaluate(&see, resource))
        }
    }
}
