//! The owner of an intercepted Service goes on working, and no write of theirs is refused or lost.

use anyhow::Context;
use fairlead_lab::tools;
use fairlead_tests::{OwnShop, Person, Story, Way, World, within};

use crate::intercepting::{PATIENCE, PORT};

pub(crate) fn stories() -> Vec<Story> {
    vec![Story::new("owners upgrade, apply and restart, and the intercept is there again", owners)]
}

/// Four owners at once, each with their own means, on four shops that one developer intercepts.
fn owners(world: &World) -> anyhow::Result<()> {
    let ada = world.ada();
    ada.gets_ready()?;
    let _own = ada.runs("cart", PORT)?;
    let ways = [
        (Way::Helm(tools::helm()?), "by-helm-4"),
        (Way::Helm(tools::helm3()?), "by-helm-3"),
        (Way::ServerSideApply, "by-server-side"),
        (Way::Apply, "by-apply"),
    ];
    std::thread::scope(|scope| {
        let owners = ways.map(|(way, namespace)| {
            let ada = &ada;
            scope.spawn(move || works_while_intercepted(world, ada, way, namespace))
        });
        owners.into_iter().try_for_each(|owner| owner.join().expect("an owner does not panic"))
    })?;
    ada.fairlead(&["stop"])?.ok()?;
    Ok(())
}

fn works_while_intercepted(
    world: &World,
    ada: &Person<'_>,
    way: Way,
    namespace: &'static str,
) -> anyhow::Result<()> {
    let shop = OwnShop::opens(world, way, namespace)?;
    let cart = shop.cart();
    let intercept = || ada.fairlead(&["intercept", &cart, &PORT.to_string()])?.ok();
    // The catalogue hears of a new shop a moment after the cluster does.
    within(PATIENCE, &format!("{cart} is intercepted"), intercept)?;
    let service = shop.cart_service()?;
    let is_hers = |after: &str| {
        let stands = || service.key()?.context("no key");
        within(PATIENCE, "the key stands", stands)
            .and_then(|_| service.is_answered_by("ada", |name| name == ada.laptop(), PATIENCE))
            .with_context(|| format!("{namespace}: {after}"))
    };
    is_hers("at the start")?;
    shop.changes_to(2)?;
    is_hers("after a change")?;
    shop.restarts()?;
    is_hers("after a restart")?;

    ada.fairlead(&["leave", &cart])?.ok()?;
    service.is_answered_by("a pod", |name| name != ada.laptop(), PATIENCE)?;
    shop.changes_to(3)?;
    shop.closes()
}
