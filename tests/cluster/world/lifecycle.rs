//! The agent itself is replaced, lost, and removed, the hub restarts, its database stands still; whoever calls an intercepted Service gets an answer.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Instant,
};

use anyhow::{Context, anyhow, ensure};
use fairlead_lab::Host;
use fairlead_tests::{Agent, Process, Story, World, end_callers, within};

use crate::intercepting::{PATIENCE, Scene, while_intercepting};

/// The last one takes the agent away.
pub(crate) fn stories() -> Vec<Story> {
    vec![
        Story::new("a rollout of the agent fails no connection and keeps the intercept", rollout),
        Story::new("a hub that restarts loses no request and brings everything back", hub_restarts),
        Story::new("a silent database refuses what is new and cuts nothing", silent_database)
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

/// Postgres stands still. Nobody notices but who wants something new, and they hear what to do.
fn silent_database(world: &World) -> anyhow::Result<()> {
    while_intercepting(world, |scene| {
        scene.ada.fairlead(&["consume", "shop/*"])?.ok()?;
        let postgres = world.hub().process()?.descendants()?;
        ensure!(!postgres.is_empty(), "the hub of this world has a Postgres of its own");
        let held = postgres.into_iter().map(Process::hold).collect::<anyhow::Result<Vec<_>>>()?;
        let callers = scene.cart.callers()?;
        let said = scene.ada.is_refused(&["consume", "shop/*"], 40)?;
        // Whether no connection to it was free in time, or no answer came.
        ensure!(said.contains("database") && said.contains("hint: "), "what is wrong: {said}");
        scene.ada.asks("http://frontend.shop")?;
        scene.cart_is_hers()?;
        let calls = end_callers(callers)?;
        calls.none_failed()?;
        let laptop = scene.ada.laptop();
        ensure!(calls.answered_by(|name| name != laptop) == 0, "a pod has answered");
        drop(held);
        within(PATIENCE, "what is new begins again", || {
            scene.ada.fairlead(&["consume", "shop/*"])?.ok()
        })?;
        Ok(())
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
