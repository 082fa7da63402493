//! Whatever can die is killed in the middle of an intercept, and everything is given back.

use std::{
    sync::PoisonError,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use fairlead_lab::Host;
use fairlead_model::timers::{INTERCEPT_GRACE, RECONNECT_MAX};
use fairlead_tests::{OwnProcess, Person, World, say, within};

use crate::{
    PATIENCE,
    stories::{LAPTOP_PORT, ada_is_ready, the_cart_is_a_pod, the_cart_is_hers},
    without_touching_a_pod,
};

/// When nothing can answer but the janitor's restore.
const JANITORS_BOUND: Duration = Duration::from_secs(20);

/// Begins a consume and an intercept of the cart, plays the scene, and ends as a developer would.
fn while_intercepting(
    world: &World,
    scene: impl FnOnce(&Person<'_>, &OwnProcess) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let ada = ada_is_ready(world)?;
    let own = ada.runs("cart", LAPTOP_PORT)?;
    without_touching_a_pod(world, || {
        ada.fairlead(&["consume", "shop/*"])?.ok()?;
        ada.fairlead(&["intercept", "shop/cart", "3000"])?.ok()?;
        the_cart_is_hers(world)?;
        scene(&ada, &own)?;
        ada.fairlead(&["stop"])?.ok()?;
        the_cart_is_a_pod(world, PATIENCE)?;
        Ok(())
    })
}

pub(crate) fn the_daemon(world: &World) -> anyhow::Result<()> {
    while_intercepting(world, |ada, _| {
        ada.loses_the_daemon()?;
        world.shop().who_answers(Host::Node1, "cart").context("right after the kill")?;
        within(PATIENCE, "the daemon is back and says what it holds", || ada.reads(&["status"]))?;
        Ok(())
    })
}

pub(crate) fn the_supervisor(world: &World) -> anyhow::Result<()> {
    while_intercepting(world, |ada, _| {
        let mut laptop = world.laptop().lock().unwrap_or_else(PoisonError::into_inner);
        laptop.kill_supervisor(world.lab())?;
        laptop.start_supervisor(world.lab())?;
        drop(laptop);
        ada.fairlead(&["start"])?.ok()?;
        Ok(())
    })
}

pub(crate) fn the_hub(world: &World) -> anyhow::Result<()> {
    while_intercepting(world, |ada, _| {
        let mut hub = world.hub().lock().unwrap_or_else(PoisonError::into_inner);
        hub.kill()?;
        the_cart_is_a_pod(world, PATIENCE)?;
        hub.start_again(world.lab())?;
        drop(hub);
        within(PATIENCE, "consume works again", || ada.asks("http://frontend.shop"))?;
        Ok(())
    })
}

pub(crate) fn one_replica(world: &World) -> anyhow::Result<()> {
    while_intercepting(world, |ada, _| {
        let agent = world.agent();
        for pod in agent.replicas()? {
            agent.kill_replica(&pod)?;
            the_cart_is_hers(world)?;
            within(PATIENCE, "consume works again", || ada.asks("http://frontend.shop"))?;
            agent.wait_ready()?;
        }
        Ok(())
    })
}

pub(crate) fn both_replicas(world: &World) -> anyhow::Result<()> {
    while_intercepting(world, |ada, _| {
        let agent = world.agent();
        let killed_at = Instant::now();
        for pod in agent.replicas()? {
            agent.kill_replica(&pod)?;
        }
        let shop = world.shop();
        within(JANITORS_BOUND, "somebody answers", || shop.who_answers(Host::Node1, "cart"))?;
        eprintln!(
            "  somebody answers {:.1} s after both were killed",
            killed_at.elapsed().as_secs_f32()
        );
        agent.wait_ready()?;
        within(PATIENCE, "consume works again", || ada.asks("http://frontend.shop"))?;
        Ok(())
    })
}

pub(crate) fn the_network(world: &World) -> anyhow::Result<()> {
    while_intercepting(world, |ada, _| {
        let cut_at = Instant::now();
        cable(world, "down")?;
        the_cart_is_a_pod(world, Duration::from_secs(10))?;
        eprintln!("  pods alone answer {:.1} s after the cut", cut_at.elapsed().as_secs_f32());
        within(INTERCEPT_GRACE + PATIENCE, "the Service is given back", || {
            let selector = say(world.lab().kubectl([
                "-n",
                "shop",
                "get",
                "service",
                "cart",
                "-o",
                "jsonpath={.spec.selector}",
            ]))?
            .ok()?
            .stdout;
            ensure!(!selector.contains("fairlead.dev"), "{selector}");
            Ok(())
        })?;
        let restored_s = cut_at.elapsed().as_secs_f32();
        cable(world, "up")?;
        eprintln!("  the Service was given back {restored_s:.1} s after the cut");
        // Its last attempt before the cable was back may have chosen the longest pause.
        within(RECONNECT_MAX + PATIENCE, "the laptop knows that its intercept ended", || {
            let sessions = ada.reads(&["list"])?;
            let intercept =
                sessions.as_array().into_iter().flatten().find(|s| s["kind"] == "intercept");
            let ended = intercept.is_none_or(|session| session["phase"] == "ended");
            ensure!(ended, "{sessions}");
            Ok(())
        })?;
        within(PATIENCE, "consume works again", || ada.asks("http://frontend.shop"))?;
        Ok(())
    })
}

fn cable(world: &World, state: &str) -> anyhow::Result<()> {
    let mut ip = world.lab().exec(Host::Laptop, "ip");
    ip.args(["link", "set", "eth0", state]);
    say(ip)?.ok()?;
    if state == "up" {
        // The address survives, the route does not.
        let mut route = world.lab().exec(Host::Laptop, "ip");
        route.args(["route", "replace", "default", "via", &Host::Node1.address().to_string()]);
        say(route)?.ok()?;
    }
    Ok(())
}
