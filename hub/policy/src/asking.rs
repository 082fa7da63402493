//! Many questions of one caller under the same facts: what they have in common is made when the first of them needs it.
//!
//! A list of 5,000 services is 15,000 questions. Who asks, under which circumstances, and which policies can match is the
//! same for nearly all of them.

use std::{collections::HashMap, sync::Arc};

use cedar_policy::{Context, EntityUid, PolicySet};
use fairlead_model::TeamspaceId;

use crate::{
    Action, Caller, Facts, Policies, Resource, Verb,
    actions::Particulars,
    entities::{self, Answer, Principal, Question},
};

/// Most slices kept. Where policies name more resources than that, a slice is made as often as it is needed.
const SLICES_MAX: usize = 64;

#[derive(Debug)]
pub(crate) struct Asking<'f> {
    pub(crate) caller: &'f Caller,
    pub(crate) facts: &'f Facts,
    principals: HashMap<Option<TeamspaceId>, Arc<Principal>>,
    contexts: Vec<(Particulars, Context)>,
    slices: HashMap<Slice, Arc<PolicySet>>,
}

/// Everything about a question that says which policies can match.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Slice {
    verb: Verb,
    /// The caller's roles depend on it.
    teamspace: Option<TeamspaceId>,
    /// The resource and what it lies in, as far as a policy names it.
    named: Vec<EntityUid>,
}

impl<'f> Asking<'f> {
    pub(crate) fn new(caller: &'f Caller, facts: &'f Facts) -> Self {
        Self {
            caller,
            facts,
            principals: HashMap::new(),
            contexts: Vec::new(),
            slices: HashMap::new(),
        }
    }

    pub(crate) fn question(
        &mut self,
        action: &impl Action,
        resource: &Resource,
    ) -> Result<Question, String> {
        let teamspace = resource.teamspace().map(|teamspace| teamspace.id);
        let caller = self.caller;
        let new = || Arc::new(Principal::of(caller, teamspace));
        let principal = Arc::clone(self.principals.entry(teamspace).or_insert_with(new));
        let context = self.context(action.particulars())?;
        Question::new(principal, action.verb(), context, resource)
    }

    /// Asks those of the organization's policies that can match.
    pub(crate) fn evaluate(&mut self, action: &impl Action, resource: &Resource) -> Answer {
        let question = match self.put(action, resource) {
            Ok(question) => question,
            Err(answer) => return answer,
        };
        let policies = &self.facts.policies;
        let slice = Slice {
            verb: action.verb(),
            teamspace: resource.teamspace().map(|teamspace| teamspace.id),
            named: question.resources().filter(|uid| policies.name(uid)).cloned().collect(),
        };
        if let Some(kept) = self.slices.get(&slice) {
            return question.ask(kept);
        }
        if self.slices.len() >= SLICES_MAX {
            self.slices.clear();
        }
        let made = Arc::new(policies.slice(&question.heads()));
        self.slices.insert(slice, Arc::clone(&made));
        question.ask(&made)
    }

    /// Asks other policies than the organization's.
    pub(crate) fn evaluate_by(
        &mut self,
        policies: &Policies,
        action: &impl Action,
        resource: &Resource,
    ) -> Answer {
        match self.put(action, resource) {
            Ok(question) => question.ask(&policies.slice(&question.heads())),
            Err(answer) => answer,
        }
    }

    /// Puts a question to policies, unless its answer is known without them.
    fn put(&mut self, action: &impl Action, resource: &Resource) -> Result<Question, Answer> {
        if !entities::is_done_by(&self.caller.actor, action.verb()) {
            return Err(Answer::NobodyAllows);
        }
        self.question(action, resource).map_err(|problem| Answer::Failed { problem })
    }

    fn context(&mut self, particulars: Particulars) -> Result<Context, String> {
        if let Some((_, kept)) = self.contexts.iter().find(|(of, _)| *of == particulars) {
            return Ok(kept.clone());
        }
        let context = entities::context(self.caller, particulars, self.facts)?;
        self.contexts.push((particulars, context.clone()));
        Ok(context)
    }
}
