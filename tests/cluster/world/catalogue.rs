//! What the hub knows of the cluster follows the cluster.

use anyhow::{Context, ensure};
use fairlead_lab::Host;
use fairlead_tests::{Handmade, Story, World, say, within};
use serde_json::Value;

use crate::intercepting::{PATIENCE, while_intercepting};

pub(crate) fn stories() -> Vec<Story> {
    vec![
        Story::new("the catalogue follows the cluster", the_catalogue),
        Story::new("an agent whose connections to the API went dead sees again", dead_connections),
    ]
}

fn the_catalogue(world: &World) -> anyhow::Result<()> {
    let cart = known(world, "shop/cart")?;
    ensure!(cart["ready_endpoints"] == 2 && cart["workload"] == "Deployment/cart", "{cart}");
    let refusal = known(world, "shop/ledger-nodes")?["intercept_refusal"].to_string();
    ensure!(refusal.contains("headless"), "{refusal}");

    // What is told of the fresh Service is told of the cart by the same message: that it selects no pod is known by then.
    while_intercepting(world, |_| {
        let fresh = Handmade::appears(world)?;
        is_known_with(&fresh, 0)?;
        for ready in [2, 1] {
            fresh.has_ready(ready)?;
            is_known_with(&fresh, ready)?;
        }
        let cart = known(world, "shop/cart")?;
        ensure!(cart["ready_endpoints"] == 2, "its own pods are still there: {cart}");
        fresh.disappears()?;
        is_forgotten(&fresh)
    })
}

/// The nodes forget every connection they translate, those of the agents to the API among them: packets get lost on
/// both sides and nobody is told.
fn dead_connections(world: &World) -> anyhow::Result<()> {
    for node in Host::NODES {
        let mut conntrack = world.lab().exec(node, "conntrack");
        conntrack.arg("--flush");
        say(conntrack)?.ok()?;
    }
    let fresh = Handmade::appears(world)?;
    is_known_with(&fresh, 0)?;
    fresh.disappears()?;
    is_forgotten(&fresh)?;
    world.both_replicas_are_linked()?;
    while_intercepting(world, |_| Ok(()))
}

fn known(world: &World, service: &str) -> anyhow::Result<Value> {
    world.catalogue()?.remove(service).with_context(|| format!("{service} is not known"))
}

fn is_known_with(fresh: &Handmade<'_>, ready: u64) -> anyhow::Result<()> {
    within(PATIENCE, &format!("it is known with {ready} ready endpoints"), || {
        let known = fresh.known_ready()?;
        ensure!(known == Some(ready), "{known:?}");
        Ok(())
    })?;
    Ok(())
}

fn is_forgotten(fresh: &Handmade<'_>) -> anyhow::Result<()> {
    within(PATIENCE, "a deleted service is forgotten", || {
        ensure!(fresh.known_ready()?.is_none(), "it is still known");
        Ok(())
    })?;
    Ok(())
}
