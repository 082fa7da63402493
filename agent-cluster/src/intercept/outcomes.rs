//! What the writer learns when one of its tasks ends: a Service was examined, a plan was carried out or failed, or
//! somebody was found who keeps undoing it.

use std::time::Instant;

use fairlead_model::{Phase, ServiceRef};
use tracing::warn;

use super::{Intercepts, case::Stage, plan::Change, preflight::NotAllowed, work::Done};
use crate::apply::{events, events::Reason};

impl Intercepts {
    /// Notes what became of a task.
    pub(super) fn take_in(&mut self, done: Done) {
        let now = Instant::now();
        match done {
            Done::Examined { service, sentinel, verdict } => {
                let Some(case) = self.cases.get_mut(&service) else { return };
                let session = case.session.filter(|s| self.owner.sentinel(*s) == sentinel);
                match (verdict, session) {
                    (Ok(()), Some(_)) => case.allow(now),
                    (Err(NotAllowed::Refused(reason)), Some(session)) => {
                        self.over(session, Phase::Refused, reason);
                    }
                    (Err(NotAllowed::NotKnown(reason)), Some(_)) => {
                        warn!(service = %service, reason, "Whether {service} may be redirected is not known yet");
                        case.examined_in_vain(reason, now);
                    }
                    (_, None) => case.stage = Stage::Fresh,
                }
            }
            Done::Changed { service, changes, redirect, failed } => {
                let Some(case) = self.cases.get_mut(&service) else { return };
                match failed {
                    None => {
                        case.made(&changes, redirect.as_ref(), now);
                        self.announce(&service, &changes);
                    }
                    Some(reason) => {
                        warn!(service = %service, reason, "A change of {service} failed and will be tried again");
                        case.failed(reason, now);
                    }
                }
            }
            Done::Blamed { service, by } => self.contested(&service, by),
        }
    }

    fn contested(&mut self, service: &ServiceRef, by: Option<String>) {
        let Some(case) = self.cases.get_mut(service) else { return };
        case.busy = false;
        let by = by.unwrap_or_else(|| "somebody".to_owned());
        let detail = format!(
            "contested: `{by}` keeps removing the redirect from {service}. Let it ignore \
             /spec/selector/fairlead.dev~1intercept, or pause it while you intercept."
        );
        self.tell_owner(service, Reason::Contested, detail.clone());
        if let Some(session) = self.cases.get(service).and_then(|case| case.session) {
            self.over(session, Phase::Contested, detail);
        }
    }

    fn announce(&mut self, service: &ServiceRef, changes: &[Change]) {
        let Some(case) = self.cases.get_mut(service) else { return };
        if changes.contains(&Change::AddKey) && !case.announced {
            case.announced = true;
            self.tell_owner(
                service,
                Reason::Started,
                "Its requests go through fairlead.".to_owned(),
            );
        } else if changes.contains(&Change::RemoveKey) {
            self.tell_owner(service, Reason::Ended, "Its requests go to its own pods.".to_owned());
        }
    }

    fn tell_owner(&self, service: &ServiceRef, reason: Reason, message: String) {
        let Some(service) = self.wires.inventory.borrow().service(service).cloned() else { return };
        let client = self.client.clone();
        tokio::spawn(async move { events::tell(&client, &service, reason, message).await });
    }
}
