//! A laptop that does not come back in time: its service is given back, and stays given back when it returns.
//!
//! A laptop that returns within the grace goes on; that is told in `deaths.rs`.

use anyhow::ensure;
use fairlead_lab::Host;
use fairlead_model::timers::{INTERCEPT_GRACE, RECONNECT_MAX};
use fairlead_tests::{Cut, Story, World, has_key};

use crate::intercepting::{CART, PATIENCE, Scene, while_intercepting};

pub(crate) fn stories() -> Vec<Story> {
    vec![
        Story::new("a laptop killed for good gives the service back and steals nothing", killed),
        Story::new("a laptop cut off for good gives the service back and steals nothing", silent),
    ]
}

fn killed(world: &World) -> anyhow::Result<()> {
    while_intercepting(world, |scene| {
        let mut laptop = world.laptop();
        laptop.kill_supervisor(world.lab())?;
        scene.ada.loses_the_daemon()?;
        is_given_back(scene)?;
        steals_nothing(scene, || {
            laptop.start_supervisor(world.lab())?;
            scene.ada.fairlead(&["start"])?.ok()?;
            Ok(())
        })
    })
}

fn silent(world: &World) -> anyhow::Result<()> {
    while_intercepting(world, |scene| {
        let cut = Cut::off(world.lab(), Host::Laptop)?;
        is_given_back(scene)?;
        steals_nothing(scene, || cut.mend())
    })
}

/// The pods answer long before the Service is given back.
fn is_given_back(scene: &Scene<'_>) -> anyhow::Result<()> {
    scene.cart_is_a_pod()?;
    ensure!(scene.cart.key()?.is_some(), "it was given back before the grace was over");
    scene.cart.is_given_back(INTERCEPT_GRACE + PATIENCE)
}

fn steals_nothing(
    scene: &Scene<'_>,
    returns: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let watch = scene.cart.watch()?;
    returns()?;
    // Its last attempt before it could reach the hub again may have chosen the longest pause.
    scene.ada.has_lost(CART, RECONNECT_MAX + PATIENCE)?;
    scene.ada.is_connected(RECONNECT_MAX + PATIENCE)?;
    scene.cart_is_a_pod()?;
    ensure!(!watch.so_far().iter().any(has_key), "the service was stolen back");
    Ok(())
}
