//! One agent replica that does not come back under its name: its pod deleted, its node cut off.
//!
//! Replicas that are killed and restarted are in `deaths.rs`; how many connections fail, and for how long, is measured
//! by `cargo xtask bench loss`.

use anyhow::ensure;
use fairlead_lab::Host;
use fairlead_tests::{Cut, Story, World, within};

use crate::intercepting::{PATIENCE, while_intercepting};

pub(crate) fn stories() -> Vec<Story> {
    vec![
        Story::new("an agent pod that is deleted is replaced", deleted),
        Story::new("an agent whose node is cut off is left out and comes back", cut_off),
    ]
}

fn deleted(world: &World) -> anyhow::Result<()> {
    while_intercepting(world, |scene| {
        let agent = world.agent();
        for victim in [agent.writer()?, agent.other_replica()?] {
            agent.delete_replicas(&[victim])?;
            scene.cart_is_hers()?;
            world.both_replicas_are_linked()?;
            scene.intercept_goes_on()?;
        }
        Ok(())
    })
}

fn cut_off(world: &World) -> anyhow::Result<()> {
    while_intercepting(world, |scene| {
        let agent = world.agent();
        let node = agent.host_of(&agent.writer()?)?;
        let other = if node == Host::Node1 { Host::Node2 } else { Host::Node1 };
        let cut = Cut::off(world.lab(), node)?;
        let laptop = scene.ada.laptop();
        scene.cart.is_answered_from(&[other], "ada", |name| name == laptop, PATIENCE)?;
        cut.mend()?;
        is_ready(world, node)?;
        world.both_replicas_are_linked()?;
        scene.intercept_goes_on()
    })
}

fn is_ready(world: &World, node: Host) -> anyhow::Result<()> {
    let ready = "jsonpath={.status.conditions[?(@.type=='Ready')].status}";
    within(PATIENCE, "the node is ready", || {
        let status = world.kubectl(&["get", "node", node.name(), "-o", ready])?;
        ensure!(status == "True", "{status}");
        Ok(())
    })?;
    Ok(())
}
