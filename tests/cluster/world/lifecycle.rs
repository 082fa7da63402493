//! The agent itself is replaced, lost, and removed, the hub restarts, its database is stopped; whoever calls an intercepted Service gets an answer.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Instant,
};

use anyhow::{Context, anyhow, ensure};
use fairlead_lab::Host;
use fairlead_tests::{Agent, Story, World, end_callers, within};

use crate::intercepting::{ASKS, PATIENCE, Scene, while_intercepting};

const INTERCEPT_CATALOG: [&str; 3] = ["intercept", "shop/catalog", "3000:80"];
/// Exit code of the command.
const HUB_UNREACHABLE: i32 = 40;

/// The last one takes the agent away.
pub(crate) fn stories() -> Vec<Story> {
    vec![
        Story::new("a rollout of the agent fails no connection and keeps the intercept", rollout),
        Story::new("a hub that restarts loses no request and brings everything back", hub_restarts),
        Story::new("a stopped database refuses what is new and cuts nothing", stopped_database)
            .in_one_mode(),
        Story::new("the janitor gives a service back when no agent can", janitor),
        Story::new(
            "uninstalling the agent gives the service back and fails no connection",
            uninstall,
        )
        .without_the_agent(),
    ]
}

fn rollout(world: &World) -> anyhow::Result<()> {
    while_intercepting(world, |scene| {
        scene.ada.fairlead(&["consume", "shop/*"])?.ok()?;
        let callers = scene.cart.callers()?;
        while_ada_asks(scene, || {
            world.agent().rolls_out()?;
            world.agent().wait_ready()
        })?;
        scene.intercept_goes_on()?;
        end_callers(callers)?.none_failed()?;
        world.both_replicas_are_linked()
    })
}

/// Does something while ada asks a service by its name, over a new connection each time: each has to be answered.
fn while_ada_asks(
    scene: &Scene<'_>,
    act: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let (ada, is_done) = (&scene.ada, AtomicBool::new(false));
    let ask = || {
        let mut answers = 0;
        while answers == 0 || !is_done.load(Ordering::Relaxed) {
            let asked = ada.asks("http://frontend.shop");
            asked.with_context(|| format!("after {answers} answers"))?;
            answers += 1;
        }
        anyhow::Ok(())
    };
    thread::scope(|scope| {
        let asking = scope.spawn(ask);
        let acted = act();
        is_done.store(true, Ordering::Relaxed);
        asking.join().map_err(|_| anyhow!("whoever asks panicked"))??;
        acted
    })
}

/// Whoever calls is answered by pods until the laptop is back, which no command has to see to.
fn hub_restarts(world: &World) -> anyhow::Result<()> {
    while_intercepting(world, |scene| {
        scene.ada.fairlead(&["consume", "shop/*"])?.ok()?;
        let callers = scene.cart.callers()?;
        // What was under way through the hub is cut with it.
        let since = {
            let mut hub = world.hub();
            hub.kill()?;
            scene.cart_is_a_pod()?;
            let since = Instant::now();
            hub.start_again(world.lab())?;
            since
        };
        within(PATIENCE, "consume is back", || scene.ada.asks("http://frontend.shop"))?;
        scene.intercept_goes_on()?;
        end_callers(callers)?.between(since, Instant::now()).none_failed()?;
        world.both_replicas_are_linked()
    })
}

/// Postgres is stopped. Nobody notices but who wants something new, and they hear what to do. For how long makes no
/// difference here; `cargo xtask bench loss` stops it for a minute.
fn stopped_database(world: &World) -> anyhow::Result<()> {
    while_intercepting(world, |scene| {
        let ada = &scene.ada;
        ada.fairlead(&["consume", "shop/*"])?.ok()?;
        let mut consumed = ada.converses_with("ledger.shop:7000")?;
        consumed.is_answered("before\n", "before")?;
        let mut intercepted = scene.cart.conversation(Host::Node1)?;
        intercepted.is_answered(ASKS, ada.laptop().as_str())?;
        let stopped = world.hub().stops_database()?;
        let callers = scene.cart.callers()?;
        let new = [&["consume", "shop/cart"][..], &INTERCEPT_CATALOG];
        for asked in new.map(|words| ada.begins(words)) {
            let said = asked?.ends()?;
            ensure!(said.code == Some(HUB_UNREACHABLE), "it is not refused: {said}");
            // Whether no connection to it was free in time, or no answer came.
            let says = |word| said.stderr.contains(word);
            ensure!(says("the hub") && says("database"), "what is wrong: {said}");
            ensure!(says("hint: ") && (says("goes on") || says("go on")), "what goes on: {said}");
        }
        ada.asks("http://frontend.shop")?;
        scene.cart_is_hers()?;
        let calls = end_callers(callers)?;
        calls.none_failed()?;
        ensure!(calls.answered_by(|name| name != ada.laptop()) == 0, "a pod has answered");
        consumed.is_answered("meanwhile\n", "meanwhile").context("what she consumes")?;
        intercepted.is_answered(ASKS, &ada.laptop()).context("what she intercepts")?;
        drop(stopped);
        within(PATIENCE, "what is new begins again", || ada.fairlead(&INTERCEPT_CATALOG)?.ok())?;
        consumed.is_answered("afterwards\n", "afterwards").context("what she consumes")?;
        intercepted.is_answered(ASKS, &ada.laptop()).context("what she intercepts")?;
        scene.intercept_goes_on()
    })
}

/// Both replicas are gone, and no node may run new ones.
fn janitor(world: &World) -> anyhow::Result<()> {
    while_intercepting(world, |scene| {
        let agent = world.agent();
        let cordon = |verb: &str| -> anyhow::Result<()> {
            Host::NODES.iter().try_for_each(|node| world.kubectl(&[verb, node.name()]).map(drop))
        };
        cordon("cordon")?;
        let replicas = agent.replicas()?;
        for replica in &replicas {
            Agent::kill_replica(replica)?;
        }
        agent.delete_replicas(&replicas)?;
        scene.cart.is_given_back(PATIENCE)?;
        scene.cart_is_a_pod()?;
        cordon("uncordon")?;
        world.both_replicas_are_linked()?;
        scene.intercept_goes_on()
    })
}

fn uninstall(world: &World) -> anyhow::Result<()> {
    while_intercepting(world, |scene| {
        let callers = scene.cart.callers()?;
        world.agent().uninstall()?;
        ensure!(scene.cart.key()?.is_none(), "the key is still there");
        scene.cart_is_a_pod()?;
        end_callers(callers)?.none_failed()
    })
}
