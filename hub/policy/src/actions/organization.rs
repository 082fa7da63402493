//! The organization itself: its name, its issuers.

use super::Action;
use crate::{Caller, Resource, Verb};

#[derive(Clone, Debug)]
pub struct ManageOrganization;

impl Action for ManageOrganization {
    fn verb(&self) -> Verb {
        Verb::ManageOrganization
    }

    fn resource(&self, caller: &Caller) -> Resource {
        Resource::Organization(caller.org)
    }

    fn in_words(&self) -> String {
        "change the organization".to_owned()
    }
}
