//! The audit log: who may read it. Nobody may write it; it is written by what happens.

use super::Action;
use crate::{Caller, Resource, Verb};

#[derive(Clone, Debug)]
pub struct ReadAudit;

impl Action for ReadAudit {
    fn verb(&self) -> Verb {
        Verb::ReadAudit
    }

    fn resource(&self, caller: &Caller) -> Resource {
        Resource::Organization(caller.org)
    }

    fn in_words(&self) -> String {
        "read the audit log".to_owned()
    }
}
