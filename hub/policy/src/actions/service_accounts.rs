//! Service accounts and their tokens: who may make and take away what programs sign in with.

use fairlead_model::{ApiTokenId, TeamspaceId, UserId};

use super::Action;
use crate::{Caller, Resource, Role, Verb};

#[derive(Clone, Debug)]
pub struct ListServiceAccounts;

#[derive(Clone, Debug)]
pub struct CreateServiceAccount {
    pub name: String,
    pub roles: Vec<Role>,
    /// Where the roles count; `None`: in every teamspace.
    pub teamspaces: Option<Vec<TeamspaceId>>,
}

#[derive(Clone, Debug)]
pub struct DeleteServiceAccount {
    pub account: UserId,
}

#[derive(Clone, Debug)]
pub struct CreateApiToken {
    pub account: UserId,
    /// What it is for, in the words of whoever makes it.
    pub name: String,
}

#[derive(Clone, Debug)]
pub struct RevokeApiToken {
    pub id: ApiTokenId,
}

macro_rules! manages_tokens {
    ($action:ident, $words:literal) => {
        impl Action for $action {
            fn verb(&self) -> Verb {
                Verb::ManageTokens
            }

            fn resource(&self, caller: &Caller) -> Resource {
                Resource::Organization(caller.org)
            }

            fn in_words(&self) -> String {
                $words.to_owned()
            }
        }
    };
}

manages_tokens!(ListServiceAccounts, "list service accounts");
manages_tokens!(CreateServiceAccount, "create service accounts");
manages_tokens!(DeleteServiceAccount, "delete service accounts");
manages_tokens!(CreateApiToken, "create tokens of service accounts");
manages_tokens!(RevokeApiToken, "revoke tokens of service accounts");
