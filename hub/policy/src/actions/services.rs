//! Services: who may see that they exist.

use super::Action;
use crate::{Caller, Resource, ServiceFacts, Verb};

#[derive(Clone, Debug)]
pub struct SeeService {
    pub target: ServiceFacts,
}

impl Action for SeeService {
    fn verb(&self) -> Verb {
        Verb::See
    }

    fn resource(&self, _: &Caller) -> Resource {
        Resource::Service(self.target.clone())
    }

    fn in_words(&self) -> String {
        format!("see `{}` in teamspace `{}`", self.target.service, self.target.teamspace.name)
    }
}
