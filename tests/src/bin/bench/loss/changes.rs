//! What others change in the cluster is followed: an owner's write that pushes an intercept aside, a new Service, a changed
//! endpoint.

use std::time::{Duration, Instant};

use anyhow::ensure;
use fairlead_lab::tools;
use fairlead_tests::{
    Handmade, OwnShop, Published, Service, Watch, Way, end_callers, has_key, within,
};

use super::{Event, Sample};
use crate::stage::{PATIENCE, PORT, SETTLED, Stage, ms};

pub(super) fn events() -> Vec<Event> {
    let is_back = |name| Sample::of(name, "ms", 5000.0);
    vec![
        Event {
            what: "the owner works",
            happens: owner_works,
            samples: vec![
                is_back("Helm 4 upgrades: the intercept is back after"),
                is_back("Helm 3 upgrades: the intercept is back after"),
                is_back("apply on the server's side: the intercept is back after"),
                is_back("apply on the client's side: the intercept is back after"),
                is_back("rollout restart: the intercept is back after"),
            ],
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

/// Of all these, an apply on the server's side that is not forced drops the key, and nobody is asked.
fn owner_works(stage: &Stage<'_>, _: u32) -> anyhow::Result<Vec<f64>> {
    let ways = [
        (Way::Helm(tools::helm()?), "by-helm-4"),
        (Way::Helm(tools::helm3()?), "by-helm-3"),
        (Way::ServerSideApply, "by-server-side"),
        (Way::Apply, "by-apply"),
    ];
    let mut took = Vec::new();
    let mut restarted = Duration::ZERO;
    for (way, namespace) in ways {
        let shop = OwnShop::opens(stage.world, way, namespace)?;
        let (cart, name) = (shop.cart_service()?, shop.cart());
        let intercept = || stage.ada.fairlead(&["intercept", &name, PORT])?.ok();
        within(PATIENCE, "it is intercepted", intercept)?;
        let watch = cart.watch()?;
        watch.until(PATIENCE, "the key stands", has_key)?;
        took.push(hers_again(stage, &cart, || {
            shop.changes_to(2)?;
            let seen = watch.until(PATIENCE, "it is there", |seen| revision(seen) == Some("2"))?;
            if !has_key(&seen) {
                watch.until(PATIENCE, "the key stands again", has_key)?;
            }
            Ok(seen.at)
        })?);
        restarted = restarted.max(hers_again(stage, &cart, || {
            let begun = Instant::now();
            shop.restarts()?;
            Ok(begun)
        })?);
        stage.ada.fairlead(&["leave", &name])?.ok()?;
        cart.is_answered_by("a pod", |name| !stage.is_hers(name), PATIENCE)?;
        shop.closes()?;
    }
    Ok(took.into_iter().chain([restarted]).map(ms).collect())
}

/// Has the owner do something, and returns for how long after that every new connection was not ada's again.
fn hers_again(
    stage: &Stage<'_>,
    cart: &Service<'_>,
    happens: impl FnOnce() -> anyhow::Result<Instant>,
) -> anyhow::Result<Duration> {
    let is_hers = |name: &str| stage.is_hers(name);
    cart.is_answered_by("ada", is_hers, PATIENCE)?;
    std::thread::sleep(SETTLED);
    let callers = cart.callers()?;
    let happened = happens()?;
    cart.is_answered_by("ada", is_hers, PATIENCE)?;
    std::thread::sleep(SETTLED);
    Ok(end_callers(callers)?.moved(happened, is_hers)?.all)
}

fn revision(published: &Published) -> Option<&str> {
    published.object["metadata"]["annotations"]["shop/revision"].as_str()
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
