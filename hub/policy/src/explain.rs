//! Why not: names the policy that decided, and what would help.

use cedar_policy::{Policy, PrincipalConstraint};

use crate::{Action, Facts, Resource, asking::Asking, entities::Answer};

/// Most policies named in one refusal.
const NAMED_MAX: usize = 3;

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Denied {
    /// What was refused, and by what: one or two sentences for a person.
    pub reason: String,
    /// Who is allowed, where that is known.
    pub hint: Option<String>,
    /// The policies that forbid it; none where it is only that no policy allows it.
    pub policies: Vec<String>,
    /// Whether the caller may know that the resource exists: 403 when true, 404 when not.
    pub visible: bool,
    pub policy_version: u64,
    /// A policy could not be evaluated. The refusal stands; somebody must look at it.
    pub fault: Option<String>,
}

impl Denied {
    pub(crate) fn invisible(in_words: String, policy_version: u64) -> Self {
        Self {
            policy_version,
            reason: format!("you may not {in_words}"),
            hint: None,
            policies: Vec::new(),
            visible: false,
            fault: None,
        }
    }
}

pub(crate) fn denied(
    asking: &mut Asking<'_>,
    action: &impl Action,
    resource: &Resource,
    answer: Answer,
    visible: bool,
) -> Denied {
    let facts = asking.facts;
    let refusal = Denied::invisible(action.in_words(), facts.policies.version());
    match answer {
        Answer::Forbidden { by } => {
            let named: Vec<_> = by.iter().map(|id| named(id, facts)).collect();
            let reason = format!("{}: forbidden by {}", refusal.reason, named.join(", "));
            Denied { reason, policies: by, visible, ..refusal }
        }
        Answer::Failed { problem } => Denied {
            reason: format!("{}: a policy could not be evaluated", refusal.reason),
            hint: Some("ask an admin of your organization to look at its policies".to_owned()),
            fault: Some(problem),
            visible,
            ..refusal
        },
        Answer::NobodyAllows | Answer::Permitted { .. } => {
            let reason = format!("{}: no policy allows it", refusal.reason);
            Denied { reason, hint: who_may(asking, action, resource), visible, ..refusal }
        }
    }
}

fn named(id: &str, facts: &Facts) -> String {
    match facts.policies.label(id) {
        Some(label) => format!("policy `{id}` ({label})"),
        None => format!("policy `{id}`"),
    }
}

/// Names the policies that allow the action to somebody else, the narrowest scope first.
fn who_may(asking: &mut Asking<'_>, action: &impl Action, resource: &Resource) -> Option<String> {
    let question = asking.question(action, resource).ok()?;
    let mut allowing: Vec<_> = asking
        .facts
        .policies
        .that_allow_somebody(&question.heads())
        .filter_map(|policy| Some((whom(policy)?, policy.id().to_string())))
        .collect();
    allowing.sort_by_key(|(whom, id)| (is_powerful(whom), id.clone()));
    allowing.truncate(NAMED_MAX);
    let sentences: Vec<_> =
        allowing.iter().map(|(whom, id)| format!("`{id}` allows it to {whom}")).collect();
    (!sentences.is_empty()).then(|| sentences.join("; "))
}

/// Returns whom a policy allows something, where its scope line says so.
fn whom(policy: &Policy) -> Option<String> {
    match policy.principal_constraint() {
        PrincipalConstraint::In(uid)
        | PrincipalConstraint::Eq(uid)
        | PrincipalConstraint::IsIn(_, uid) => {
            let kind = uid.type_name().to_string().to_lowercase();
            Some(format!("{kind} {}", uid.id().unescaped()))
        }
        PrincipalConstraint::Any | PrincipalConstraint::Is(_) => None,
    }
}

/// Asking for ownership is the last thing to suggest.
fn is_powerful(whom: &str) -> u8 {
    match whom {
        "role owner" => 2,
        "role admin" => 1,
        _ => 0,
    }
}
