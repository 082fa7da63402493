//! The hub loses its database and starts on an empty one: it knows neither cluster nor laptop any more. Both are told what
//! to do, and both give back what they hold.

use anyhow::ensure;
use fairlead_tests::{Residue, Story, World, within};

use crate::intercepting::{PATIENCE, Scene, scene};

/// Exit code of the command.
const SIGNED_OUT: i32 = 31;

pub(crate) fn stories() -> Vec<Story> {
    vec![Story::new(
        "a hub that lost its database tells everybody so, and they give everything back",
        lost,
    )]
}

fn lost(world: &World) -> anyhow::Result<()> {
    scene(world, |scene| {
        let before = Residue::of(world.lab())?;
        scene.ada.fairlead(&["consume", "shop/*"])?.ok()?;
        scene.ada_intercepts()?;
        world.hub().loses_database(world.lab())?;
        let told = nobody_is_known(scene, &before);
        world.hub().finds_database(world.lab())?;
        told?;
        world.both_replicas_are_linked()?;
        scene.ada.gets_ready()?;
        // Of her sessions of then the hub hears now that nobody has them.
        within(PATIENCE, "she intercepts again", || scene.ada_intercepts())?;
        Ok(())
    })
}

fn nobody_is_known(scene: &Scene<'_>, before: &Residue) -> anyhow::Result<()> {
    let (world, ada) = (scene.world, &scene.ada);
    world.hub().setup_token()?;
    scene.cart_is_a_pod()?;
    scene.cart.is_given_back(PATIENCE)?;
    within(PATIENCE, "nothing is left in the cluster or on the laptop", || {
        Residue::of(world.lab())?.is_the_same_as(before)
    })?;
    let status = ada.fairlead(&["status"])?;
    ensure!(
        status.stdout.contains("the hub does not know this device: sign in again"),
        "her daemon says why: {status}"
    );
    let said = ada.is_refused(&["services"], SIGNED_OUT)?;
    ensure!(said.contains("has ended") && said.contains("fairlead login"), "what to do: {said}");
    let log = world.agent().log()?;
    for words in ["the hub does not know this teamspace key", "install it with a new join token"] {
        ensure!(log.contains(words), "`{words}` is wanted:\n{log}");
    }
    Ok(())
}
