//! What a developer does, and what colleagues may do meanwhile.

use std::{io, time::Duration};

use anyhow::ensure;
use fairlead_lab::Host;
use fairlead_tests::{Person, World, say, show, within};
use serde_json::Value;

use crate::{PATIENCE, without_touching_a_pod};

/// The developer's own cart.
pub(crate) const LAPTOP_PORT: u16 = 3000;
pub(crate) const OWN: &str = "ada-laptop";

pub(crate) fn the_show(world: &World) -> anyhow::Result<()> {
    show(world, &mut io::stderr())
}

/// Signs ada in and starts her daemon; what she does after that is the story.
pub(crate) fn ada_is_ready(world: &World) -> anyhow::Result<Person<'_>> {
    let ada = world.ada();
    ada.signs_in()?;
    ada.fairlead(&["start"])?.ok()?;
    ada.fairlead(&["teamspace", "use", fairlead_tests::TEAMSPACE])?.ok()?;
    Ok(ada)
}

/// Waits until five new connections in a row from both nodes are answered as wanted.
pub(crate) fn the_cart_is(
    world: &World,
    who: &str,
    wanted: impl Fn(&str) -> bool,
    patience: Duration,
) -> anyhow::Result<Duration> {
    let shop = world.shop();
    let ((), took) = within(patience, &format!("the cart is {who}"), || {
        for host in [Host::Node1, Host::Node2].repeat(5) {
            let answered = shop.who_answers(host, "cart")?;
            ensure!(wanted(&answered), "answered by {answered}");
        }
        Ok(())
    })?;
    Ok(took)
}

pub(crate) fn the_cart_is_hers(world: &World) -> anyhow::Result<Duration> {
    the_cart_is(world, "hers", |name| name == OWN, PATIENCE)
}

pub(crate) fn the_cart_is_a_pod(world: &World, patience: Duration) -> anyhow::Result<Duration> {
    the_cart_is(world, "a pod", |name| name != OWN, patience)
}

pub(crate) fn a_pod_is_deleted(world: &World) -> anyhow::Result<()> {
    let ada = ada_is_ready(world)?;
    ada.fairlead(&["consume", "shop/*"])?.ok()?;
    let url = "http://frontend.shop";
    let pod = ada.is_answered_by(url)?;
    say(world.lab().kubectl(["-n", "shop", "delete", "pod", &pod, "--wait=false"]))?.ok()?;
    within(PATIENCE, "another pod answers by the same name", || {
        let answered = ada.is_answered_by(url)?;
        ensure!(answered != pod, "the deleted pod still answers");
        Ok(())
    })?;
    ada.fairlead(&["stop"])?.ok()?;
    world.shop().is_open()
}

pub(crate) fn no_connection_fails(world: &World) -> anyhow::Result<()> {
    const SECONDS: u32 = 14;
    let ada = ada_is_ready(world)?;
    let own = ada.runs("cart", LAPTOP_PORT)?;
    without_touching_a_pod(world, || {
        let shop = world.shop();
        let clients = Host::NODES.map(|node| shop.steady_client(node, "cart", SECONDS));
        ada.fairlead(&["intercept", "shop/cart", "3000"])?.ok()?;
        the_cart_is_hers(world)?;
        ada.fairlead(&["leave", "shop/cart"])?.ok()?;
        the_cart_is_a_pod(world, PATIENCE)?;
        for client in clients {
            let tally = client?.tally()?;
            eprintln!("  {} connections, {} failed", tally["ok"], tally["failed"]);
            ensure!(tally["failed"] == 0, "{tally}");
            ensure!(answers_of(&tally, OWN) > 0, "none of them came to the laptop: {tally}");
        }
        Ok(())
    })?;
    drop(own);
    ada.fairlead(&["stop"])?.ok()?;
    Ok(())
}

fn answers_of(tally: &Value, who: &str) -> u64 {
    tally["by_answerer"][who].as_u64().unwrap_or_default()
}
