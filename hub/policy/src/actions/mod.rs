//! What can be done: one type per action, one file per noun. A permit names one of these, with its object in it.

mod audit;
mod join_tokens;
mod organization;
mod people;
mod policies;
mod reach;
mod service_accounts;
mod services;
mod sessions;
mod teamspaces;

use std::fmt;

pub use audit::ReadAudit;
pub use join_tokens::{CreateJoinToken, DeleteJoinToken, ListJoinTokens};
pub use organization::ManageOrganization;
pub use people::{ListMembers, RemoveDevice, RemoveMember, RestoreMember, RoleHolder, SetRoles};
pub use policies::{ListPolicies, PublishPolicies};
pub use reach::{Reach, ReachExternal};
pub use service_accounts::{
    CreateApiToken, CreateServiceAccount, DeleteServiceAccount, ListServiceAccounts, RevokeApiToken,
};
pub use services::SeeService;
pub use sessions::{Consume, EndSession, Intercept, SeeSession};
pub use teamspaces::{
    CreateTeamspace, DeleteTeamspace, ResetEnrolment, SeeTeamspace, UnlockTeamspace,
};

use crate::{Resource, Verb, caller::Caller};

/// A question for [`decide`](crate::decide()): a verb, and the resource it is about.
pub trait Action: fmt::Debug {
    fn verb(&self) -> Verb;

    /// Returns what is acted upon. Organization-wide actions are about the caller's own organization.
    fn resource(&self, caller: &Caller) -> Resource;

    /// Returns the action in words that follow "you may not …".
    fn in_words(&self) -> String;

    /// Says whether owners may do this whatever their organization's own policies say: what is the way back from
    /// policies that lock everybody out.
    fn is_owners_way_back(&self) -> bool {
        false
    }

    /// Returns the facts that only this action has.
    fn particulars(&self) -> Particulars {
        Particulars::None
    }
}

/// What an action adds to the circumstances that policies see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Particulars {
    None,
    Intercept {
        /// Only the developer's own requests, not everybody's.
        header_filtered: bool,
        /// How long the laptop may be away before the service is given back.
        grace_s: i64,
    },
    Roles {
        /// The change gives or takes the role of owner.
        touches_owner: bool,
    },
}
