//! One who listens for changes. Whatever is said to them was heard before their credential and their rights were last
//! looked at: somebody who was shut out hears nothing of what came after.

use std::{collections::HashSet, time::Duration};

use axum::{extract::FromRequestParts, http::request::Parts};
use fairlead_model::OrgId;
use hub_policy::{
    actions::{ListMembers, ListPolicies},
    decide,
};
use hub_store::notify::{Change, Heard, Noun};
use tokio::{
    sync::broadcast::{Receiver, error::RecvError},
    time::{Instant, sleep_until},
};

use super::{
    super::error::Problem,
    seats::{SEATS_MAX, Seat, Seats},
};
use crate::{Hub, login::Authenticated};

/// Hints within this time are one look at the credential, and one hint for each noun.
const GATHER: Duration = Duration::from_millis(500);
/// The credential of one who hears nothing is looked at this often.
const QUIET: Duration = Duration::from_secs(15);

pub(super) struct Listener {
    hub: Hub,
    /// With which they came: looked at again and again.
    parts: Parts,
    org: OrgId,
    may_list_policies: bool,
    looked_at: Instant,
    heard: HashSet<Noun>,
    watcher: Receiver<Heard>,
    _seat: Seat,
}

impl Listener {
    pub(super) async fn begin(hub: Hub, parts: Parts, seats: &Seats) -> Result<Self, Problem> {
        // Before the look: what is heard while it goes on is said.
        let watcher = hub.changes.watch();
        let look = look(&hub, &parts).await?;
        let seat = seats.take(look.user).ok_or_else(|| {
            Problem::too_many_requests(QUIET.as_secs()).hint(format!(
                "close some of the {SEATS_MAX} pages or programs that listen already"
            ))
        })?;
        Ok(Self {
            hub,
            parts,
            org: look.org,
            may_list_policies: look.may_list_policies,
            looked_at: Instant::now(),
            heard: HashSet::new(),
            watcher,
            _seat: seat,
        })
    }

    /// Waits for something that can be said; `None` when there is nobody any more to whom it may be.
    pub(super) async fn next(&mut self) -> Option<Vec<Noun>> {
        loop {
            let wait = if self.heard.is_empty() { QUIET } else { GATHER };
            let stopping = self.hub.stopping.clone();
            tokio::select! {
                () = stopping.cancelled() => return None,
                heard = self.watcher.recv() => self.hear(heard)?,
                () = sleep_until(self.looked_at + wait) => {
                    let look = look(&self.hub, &self.parts).await.ok()?;
                    self.may_list_policies = look.may_list_policies;
                    self.looked_at = Instant::now();
                    if !self.heard.is_empty() {
                        let heard = std::mem::take(&mut self.heard).into_iter();
                        return Some(heard.filter(|noun| self.may_hear(*noun)).collect());
                    }
                }
            }
        }
    }

    fn hear(&mut self, heard: Result<Heard, RecvError>) -> Option<()> {
        match heard {
            Ok(Heard::Change(Change { org, noun, .. })) if org == self.org => {
                self.heard.insert(noun);
            }
            Ok(Heard::Change(_)) => {}
            // Something was missed: everything may have changed.
            Ok(Heard::Gap) | Err(RecvError::Lagged(_)) => self.heard.extend(Noun::ALL),
            Err(RecvError::Closed) => return None,
        }
        Some(())
    }

    /// Whoever listens may list members; policies are not everybody's. Of the others each sees a part.
    const fn may_hear(&self, noun: Noun) -> bool {
        match noun {
            Noun::Policies => self.may_list_policies,
            Noun::Sessions | Noun::Services | Noun::Teamspaces | Noun::Members => true,
        }
    }
}

struct Look {
    org: OrgId,
    user: fairlead_model::UserId,
    may_list_policies: bool,
}

/// Asks everything again that was asked when the stream began.
async fn look(hub: &Hub, parts: &Parts) -> Result<Look, Problem> {
    let Authenticated(caller) = Authenticated::from_request_parts(&mut parts.clone(), hub).await?;
    let facts = hub.facts(&caller).await?;
    hub.decide(&caller, ListMembers, &facts).await?;
    let may_list_policies = decide(&caller, ListPolicies, &facts).is_ok();
    Ok(Look { org: caller.org, user: caller.actor.user(), may_list_policies })
}
