//! One round: ada does what the plan says and everything around her is struck meanwhile. Afterwards everything works again
//! by itself, what she has is there, and when she has stopped, cluster and laptop are what they were.

use std::{
    thread::{self, sleep},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use fairlead_tests::{Person, Residue, World, within};
use serde_json::Value;

use super::{
    plan::{Act, Plan},
    strike::{fall, repair},
};
use crate::{
    intercepting::{CART, INTERCEPT, LEAVE, PORT, Scene, without_touching_a_pod},
    live_sessions,
};

/// Speed is not judged here: only for ever is too long.
const PATIENCE: Duration = Duration::from_secs(90);
const PANICKED: i32 = 101;
const CONSUME: [&str; 2] = ["consume", "shop/*"];

/// What she has in the end, as far as it is known: a command that failed has done it, or has not.
#[derive(Debug, Clone, Copy)]
struct Has {
    consume: Option<bool>,
    intercept: Option<bool>,
}

pub(super) fn play(world: &World, plan: &Plan) -> anyhow::Result<()> {
    let before = Residue::of(world.lab())?;
    let ada = world.ada();
    ada.gets_ready()?;
    let own = ada.runs("cart", PORT)?;
    let scene = Scene::of(world, ada, world.service(CART)?, own);
    without_touching_a_pod(world, || {
        let has = storm(&scene, plan)?;
        is_healed(&scene, has)
    })?;
    let Scene { ada, cart, .. } = &scene;
    within(PATIENCE, "she stops", || ada.fairlead(&["stop"])?.ok())?;
    scene.cart_is_a_pod()?;
    cart.is_given_back(PATIENCE)?;
    live_sessions::there_are_none(world)?;
    drop(scene);
    // The kubelet waits longer before each restart of a container.
    world.agent().renews_what_died()?;
    world.both_replicas_are_linked()?;
    within(PATIENCE, "nothing is left behind", || {
        Residue::of(world.lab())?.is_the_same_as(&before)
    })?;
    Ok(())
}

/// Begins what she has, has the blows fall while she does what she does, and returns what she has then.
fn storm(scene: &Scene<'_>, plan: &Plan) -> anyhow::Result<Has> {
    let Scene { world, ada, .. } = scene;
    if plan.consumes {
        ada.fairlead(&CONSUME)?.ok()?;
    }
    if plan.intercepts {
        scene.ada_intercepts()?;
    }
    let mut has = Has { consume: Some(plan.consumes), intercept: Some(plan.intercepts) };
    let begun = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| fall(world, &plan.blows, begun));
        plan.steps.iter().try_for_each(|(after, act)| {
            sleep(after.saturating_sub(begun.elapsed()));
            does(ada, *act, &mut has)
        })
    })?;
    Ok(has)
}

/// Runs the command of a step. It may fail, since whoever it needs may be dead; but it neither hangs nor panics.
fn does(ada: &Person<'_>, act: Act, has: &mut Has) -> anyhow::Result<()> {
    let words: &[&str] = match act {
        Act::Consume => &CONSUME,
        Act::ConsumeNothing => &["consume", "clear"],
        Act::Intercept => &INTERCEPT,
        Act::Leave => &LEAVE,
    };
    let said = ada.begins(words)?.ends_within(PATIENCE)?;
    ensure!(said.code.is_some_and(|code| code != PANICKED), "{said}");
    let is_done = said.code == Some(0);
    match act {
        Act::Consume => has.consume = is_done.then_some(true),
        Act::ConsumeNothing => has.consume = is_done.then_some(false),
        Act::Intercept => has.intercept = is_done.then_some(true),
        Act::Leave => has.intercept = is_done.then_some(false),
    }
    Ok(())
}

/// Waits until everything is proven that is listed, is answered by whom it should be, and is what she has.
fn is_healed(scene: &Scene<'_>, has: Has) -> anyhow::Result<()> {
    let Scene { world, ada, cart, .. } = scene;
    repair(world)?;
    within(PATIENCE, "the daemon runs", || ada.fairlead(&["start"])?.ok())?;
    ada.is_connected(PATIENCE)?;
    world.both_replicas_are_linked()?;
    let (status, _) = within(PATIENCE, "what is listed is proven", || {
        let status = ada.reads(&["status"])?;
        for session in live(&status)? {
            ensure!(session["phase"] == "active", "{session}");
        }
        Ok(status)
    })?;
    let lives = |kind: &str| anyhow::Ok(live(&status)?.any(|session| session["kind"] == kind));
    for (kind, has) in [("consume", has.consume), ("intercept", has.intercept)] {
        let lives = lives(kind)?;
        ensure!(
            has.is_none_or(|has| has == lives),
            "{kind}: {lives} is shown, not {has:?}: {status}"
        );
    }
    match lives("consume")? {
        true => within(PATIENCE, "what she consumes answers", || ada.asks("http://frontend.shop"))
            .map(drop)?,
        false => {
            ensure!(ada.asks("http://frontend.shop").is_err(), "a name leads somewhere: {status}")
        }
    }
    match lives("intercept")? {
        true => scene.cart_is_hers(),
        false => {
            scene.cart_is_a_pod()?;
            cart.is_given_back(PATIENCE)
        }
    }
}

fn live(status: &Value) -> anyhow::Result<impl Iterator<Item = &Value>> {
    let over = ["ended", "refused"];
    let lives = move |s: &&Value| !over.contains(&s["phase"].as_str().unwrap_or_default());
    Ok(status["sessions"].as_array().context("a list")?.iter().filter(lives))
}
