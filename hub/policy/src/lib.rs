//! Who may: caller, action and facts become a [`Permit`] or a [`Denied`] that says why.
//!
//! Everything here is pure. Time, policies and the labels of a service are facts that the caller of [`decide()`]
//! brings along; there is no clock, no database and no HTTP in this crate.
//!
//! A permit cannot be made outside [`decide()`]:
//!
//! ```compile_fail,E0451
//! use hub_policy::{Permit, actions::CreateTeamspace};
//!
//! fn forge(real: &Permit<CreateTeamspace>, name: &str) -> Permit<CreateTeamspace> {
//!     Permit {
//!         action: CreateTeamspace { name: name.parse().unwrap() },
//!         caller: real.caller().clone(),
//!         decision: real.decision().clone(),
//!     }
//! }
//! ```

pub mod actions;
mod asking;
mod caller;
mod decide;
mod entities;
mod explain;
mod facts;
mod policies;
mod resource;
mod verb;

pub use actions::Action;
pub use caller::{Actor, Caller, InvalidRole, Role, RoleBinding};
pub use decide::{
    Decided, Decider, Decision, Permit, Permits, Refused, SomePermitted, decide, decide_each,
};
pub use explain::Denied;
pub use facts::Facts;
pub use policies::{InvalidPolicies, Policies, PolicyText};
pub use resource::{
    HostFacts, InvalidTeamspaceName, Resource, ServiceFacts, TeamspaceFacts, TeamspaceName,
};
pub use verb::Verb;
