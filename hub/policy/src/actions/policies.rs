//! The organization's own policies: who may read and replace them.

use super::Action;
use crate::{Caller, PolicyText, Resource, Verb};

#[derive(Clone, Debug)]
pub struct ListPolicies;

impl Action for ListPolicies {
    fn verb(&self) -> Verb {
        Verb::See
    }

    fn resource(&self, caller: &Caller) -> Resource {
        Resource::Organization(caller.org)
    }

    fn in_words(&self) -> String {
        "see the policies".to_owned()
    }

    fn is_owners_way_back(&self) -> bool {
        true
    }
}

/// Replace the organization's own policies; the built-in ones stay.
#[derive(Clone, Debug)]
pub struct PublishPolicies {
    pub texts: Vec<PolicyText>,
}

impl Action for PublishPolicies {
    fn verb(&self) -> Verb {
        Verb::ManagePolicies
    }

    fn resource(&self, caller: &Caller) -> Resource {
        Resource::Organization(caller.org)
    }

    fn in_words(&self) -> String {
        "change policies".to_owned()
    }

    fn is_owners_way_back(&self) -> bool {
        true
    }
}
