//! The agent itself is replaced, lost, and removed; whoever calls an intercepted Service gets an answer.

use anyhow::ensure;
use fairlead_lab::Host;
use fairlead_tests::{Agent, Story, World, end_callers};

use crate::intercepting::{PATIENCE, while_intercepting};

/// The last one takes the agent away.
pub(crate) fn stories() -> Vec<Story> {
    vec![
        Story::new("a rollout of the agent fails no connection and keeps the intercept", rollout),
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
        let callers = scene.cart.callers()?;
        world.agent().rolls_out()?;
        scene.intercept_goes_on()?;
        end_callers(callers)?.none_failed()?;
        world.both_replicas_are_linked()
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
