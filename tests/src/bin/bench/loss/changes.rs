//! What others change in the cluster is followed: an owner's write that pushes an intercept aside, a new Service, a changed
//! endpoint.

use std::time::{Duration, Instant};

use anyhow::ensure;
use fairlead_tests::{Handmade, OwnShop, Watch, Way, end_callers, has_key, within};

use super::{Event, Sample};
use crate::stage::{PATIENCE, PORT, SETTLED, Stage, ms};

pub(super) fn events() -> Vec<Event> {
    vec![
        Event {
            what: "the owner applies on the server's side",
            happens: owner_writes,
            samples: vec![Sample::of(
                "server-side apply: the intercept is there again after",
                "ms",
                5000.0,
            )],
        },
        Event {
            what: "a service is new, and its endpoints change",
            happens: service_changes,
            samples: vec![
                Sample::of("new service: in the catalogue after", "ms", 1000.0),
                Sample::of("changed endpoints: in the catalogue after", "ms", 1000.0),
            ],
        },
    ]
}

/// A server-side apply that is not forced: it drops the key, and nobody is asked. How soon an intercept is there again
/// after an owner's other writes (Helm 3 and 4, a client's apply, a restart) is not measured; that it is, a story of the
/// cluster suite says.
fn owner_writes(stage: &Stage<'_>, _: u32) -> anyhow::Result<Vec<f64>> {
    let shop = OwnShop::opens(stage.world, Way::ServerSideApply, "by-server-side")?;
    let (cart, name) = (shop.cart_service()?, shop.cart());
    let intercept = || stage.ada.fairlead(&["intercept", &name, PORT])?.ok();
    within(PATIENCE, "it is intercepted", intercept)?;
    let is_hers = |name: &str| stage.is_hers(name);
    cart.is_answered_by("ada", is_hers, PATIENCE)?;
    std::thread::sleep(SETTLED);

    let watch = cart.watch()?;
    watch.until(PATIENCE, "the key stands", has_key)?;
    let callers = cart.callers()?;
    shop.changes_to(2)?;
    let written = watch.until(PATIENCE, "the key is dropped", |published| !has_key(published))?.at;
    watch.until(PATIENCE, "the key stands again", has_key)?;
    cart.is_answered_by("ada", is_hers, PATIENCE)?;
    std::thread::sleep(SETTLED);
    let moved = end_callers(callers)?.moved(written, is_hers)?;

    stage.ada.fairlead(&["leave", &name])?.ok()?;
    cart.is_answered_by("a pod", |name| !stage.is_hers(name), PATIENCE)?;
    shop.closes()?;
    Ok(vec![ms(moved.all)])
}

fn service_changes(stage: &Stage<'_>, _: u32) -> anyhow::Result<Vec<f64>> {
    let named = format!("metadata.name={}", Handmade::NAME);
    let watch = |what: &str| {
        let words = ["-n", Handmade::NAMESPACE, what, "--field-selector", &named];
        Watch::begins(stage.world.lab(), &words)
    };
    let (services, slices) = (watch("services")?, watch("endpointslices")?);
    let is_there = |watch: &Watch| watch.until(PATIENCE, "it is there", |seen| !seen.is_deleted);
    let fresh = Handmade::appears(stage.world)?;
    let known = known_with(&fresh, 0, is_there(&services)?.at)?;
    fresh.has_ready(2)?;
    let followed = known_with(&fresh, 2, is_there(&slices)?.at)?;
    fresh.disappears()?;
    Ok(vec![ms(known), ms(followed)])
}

/// Looks at the hub's catalogue until it is known with so many endpoints, and returns how long after the event.
fn known_with(fresh: &Handmade<'_>, ready: u64, event: Instant) -> anyhow::Result<Duration> {
    within(PATIENCE, "the hub knows it", || {
        let known = fresh.known_ready()?;
        ensure!(known == Some(ready), "{known:?}");
        Ok(event.elapsed())
    })
    .map(|(known, _)| known)
}
