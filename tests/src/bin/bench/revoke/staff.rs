//! People with a daemon and a session of their own. What they do before a measurement they do side by side.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use anyhow::{Context as _, ensure};
use fairlead_tests::{LINE_SERVICE, Person, within};
use serde_json::Value;

use super::{admin::Admin, standing::becomes_developer};
use crate::stage::PATIENCE;

/// People who do something at once. Each runs a few programs, and works little in each of them.
const AT_ONCE: usize = 8;
const PORT: u16 = 7000;

pub(super) struct Staff<'l> {
    people: &'l [Person<'l>],
    must_sign_in: bool,
}

/// Somebody who consumes the service, and what that stands on.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) uid: u32,
    pub(super) address: SocketAddr,
    pub(super) user: String,
    pub(super) device: String,
    pub(super) session: String,
}

impl<'l> Staff<'l> {
    /// Has everybody sign in for the first time and makes them developers.
    pub(super) fn hired(people: &'l [Person<'l>], admin: &Admin) -> anyhow::Result<Self> {
        side_by_side(people, |person| person.signs_in())?;
        let members = admin.reads("/api/v1/members")?;
        let members = members["members"].as_array().context("a list of members")?;
        let ids = members.iter().filter_map(|m| Some((m["email"].as_str()?, m["id"].as_str()?)));
        let ids: HashMap<_, _> = ids.collect();
        for person in people {
            let id = ids.get(&*person.email()).context("somebody is no member")?;
            becomes_developer(id, admin)?;
        }
        side_by_side(people, |person| person.gets_ready())?;
        Ok(Self { people, must_sign_in: false })
    }

    /// Says whether everybody was signed out.
    pub(super) fn must_sign_in(&mut self, must: bool) {
        self.must_sign_in = must;
    }

    /// Has everybody consume the service.
    pub(super) fn consume(&self, admin: &Admin) -> anyhow::Result<Vec<Ready>> {
        is_reachable(admin)?;
        let addresses = side_by_side(self.people, |person| {
            if self.must_sign_in {
                person.signs_in()?;
            }
            let said = person.fairlead(&["consume", LINE_SERVICE, "-o", "json"])?.ok()?.json()?;
            let address = said[0]["address"].as_str().context("the service has an address")?;
            Ok(SocketAddr::new(address.parse()?, PORT))
        })?;
        let sessions = admin.reads("/api/v1/sessions?live=true")?;
        let sessions = sessions["sessions"].as_array().context("a list of sessions")?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let of: HashMap<_, _> = sessions.iter().map(|s| (text(&s["user"]["email"]), s)).collect();
        let ready = self.people.iter().zip(addresses).map(|(person, address)| {
            let session = of.get(&person.email()).context("somebody has no session")?;
            Ok(Ready {
                uid: person.uid(),
                address,
                user: text(&session["user"]["id"]),
                device: text(&session["device"]["id"]),
                session: text(&session["id"]),
            })
        });
        ready.collect()
    }
}

/// Waits until the agent has a link: it has not while links are cut, nor right after that.
fn is_reachable(admin: &Admin) -> anyhow::Result<()> {
    within(PATIENCE, "the agent has a link", || {
        let seen = admin.reads("/api/v1/teamspaces")?;
        let replicas = seen["teamspaces"][0]["replicas"].as_array().map_or(0, Vec::len);
        ensure!(replicas > 0, "{seen}");
        Ok(())
    })?;
    Ok(())
}

/// Has everybody do something, a few at a time, and returns what came of it in their order.
fn side_by_side<T: Send>(
    people: &[Person<'_>],
    act: impl Fn(&Person<'_>) -> anyhow::Result<T> + Sync,
) -> anyhow::Result<Vec<T>> {
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let number = next.fetch_add(1, Ordering::Relaxed)
                    && let Some(person) = people.get(number)
                {
                    let came_of_it = act(person).with_context(|| person.email());
                    done.lock().unwrap_or_else(PoisonError::into_inner).push((number, came_of_it));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, came_of_it)| came_of_it).collect()
}
