//! A laptop that is carried into another network and back: what it was connected by is dead without a word.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use fairlead_tests::{Elsewhere, Story, World, end_callers};

use crate::intercepting::{CART, Scene, while_intercepting};

/// As long as it takes until the last trace of the place before is gone: the agent's beats, and the beats of carriers
/// that were not asked at once.
const SETTLED: Duration = Duration::from_secs(6);

pub(crate) fn stories() -> Vec<Story> {
    vec![Story::new("a laptop that moves resumes and refuses no new connection", moves)]
}

fn moves(world: &World) -> anyhow::Result<()> {
    while_intercepting(world, |scene| {
        scene.ada.fairlead(&["consume", "shop/*"])?.ok()?;
        scene.ada.asks("http://catalog.shop")?;
        let session = session(scene)?;
        let mut elsewhere = None;
        resumes(scene, || {
            elsewhere = Some(Elsewhere::carried(world.lab())?);
            Ok(())
        })
        .context("elsewhere")?;
        let elsewhere = elsewhere.context("it was carried away")?;
        resumes(scene, || elsewhere.comes_home()).context("at home again")?;
        ensure!(self::session(scene)? == session, "it is another session");
        Ok(())
    })
}

/// From the move on each new connection is answered: of the laptop by the cluster, of the cluster by a pod until the
/// laptop is there again.
fn resumes(scene: &Scene<'_>, goes: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let callers = scene.cart.callers()?;
    goes()?;
    let moved = Instant::now();
    while moved.elapsed() < SETTLED {
        let at = moved.elapsed();
        let asked = scene.ada.asks("http://catalog.shop");
        asked.with_context(|| format!("{} ms after the move", at.as_millis()))?;
    }
    scene.intercept_goes_on()?;
    end_callers(callers)?.between(moved, Instant::now()).none_failed()
}

fn session(scene: &Scene<'_>) -> anyhow::Result<String> {
    let intercept = scene.ada.intercept_of(CART)?.context("there is no live intercept")?;
    Ok(intercept["id"].to_string())
}
