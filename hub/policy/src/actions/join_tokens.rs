//! Join tokens: who may let a cluster into a teamspace.

use fairlead_model::JoinTokenId;

use super::Action;
use crate::{Caller, Resource, TeamspaceFacts, Verb};

#[derive(Clone, Debug)]
pub struct CreateJoinToken {
    pub teamspace: TeamspaceFacts,
}

#[derive(Clone, Debug)]
pub struct ListJoinTokens {
    pub teamspace: TeamspaceFacts,
}

#[derive(Clone, Debug)]
pub struct DeleteJoinToken {
    pub teamspace: TeamspaceFacts,
    pub id: JoinTokenId,
}

macro_rules! manages_tokens {
    ($action:ident, $words:literal) => {
        impl Action for $action {
            fn verb(&self) -> Verb {
                Verb::ManageTokens
            }

            fn resource(&self, _: &Caller) -> Resource {
                Resource::Teamspace(self.teamspace.clone())
            }

            fn in_words(&self) -> String {
                format!(concat!($words, " teamspace `{}`"), self.teamspace.name)
            }
        }
    };
}

manages_tokens!(CreateJoinToken, "create join tokens for");
manages_tokens!(ListJoinTokens, "list the join tokens of");
manages_tokens!(DeleteJoinToken, "delete join tokens of");
