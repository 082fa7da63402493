//! The laptop is lost for good: killed, or silent.

use std::time::Instant;

use anyhow::Context;
use fairlead_lab::Host;
use fairlead_model::timers::{INTERCEPT_GRACE, RECONNECT_MAX};
use fairlead_tests::{Caller, Cut, Watch, end_callers};

use super::{Event, Sample};
use crate::stage::{CART, PATIENCE, SETTLED, Stage, ms};

pub(super) fn events() -> Vec<Event> {
    vec![
        Event {
            what: "the laptop is killed",
            happens: killed,
            samples: vec![
                Sample::of("laptop killed: pods alone answer after", "ms", 100.0),
                Sample::of("laptop killed: restored after the grace and", "ms", 1500.0),
            ],
        },
        Event {
            what: "the laptop falls silent",
            happens: silent,
            samples: vec![
                Sample::of("laptop silent: pods alone answer after", "ms", 3500.0),
                Sample::of("laptop silent: restored after the grace and", "ms", 1500.0),
            ],
        },
    ]
}

fn killed(stage: &Stage<'_>, _: u32) -> anyhow::Result<Vec<f64>> {
    let (world, ada) = (stage.world, &stage.ada);
    let values = given_back_after(stage, || {
        world.laptop().kill_supervisor(world.lab())?;
        ada.loses_the_daemon()
    })?;
    world.laptop().start_supervisor(world.lab())?;
    ada.fairlead(&["start"])?.ok()?;
    ada.has_lost(CART, RECONNECT_MAX + PATIENCE)?;
    Ok(values)
}

fn silent(stage: &Stage<'_>, _: u32) -> anyhow::Result<Vec<f64>> {
    let mut cut = None;
    let values = given_back_after(stage, || {
        let off = cut.insert(Cut::off(stage.world.lab(), Host::Laptop)?);
        Ok(off.since())
    })?;
    cut.context("a cut way")?.mend()?;
    stage.ada.has_lost(CART, RECONNECT_MAX + PATIENCE)?;
    Ok(values)
}

/// Has ada's laptop lost while she intercepts; returns how long after it pods alone answered, and how long after the grace
/// the Service was given back.
fn given_back_after(
    stage: &Stage<'_>,
    lose: impl FnOnce() -> anyhow::Result<Instant>,
) -> anyhow::Result<Vec<f64>> {
    stage.ada_intercepts()?;
    let slices = our_slices(stage)?;
    let callers = stage.cart.callers()?;
    let lost = lose()?;
    Ok(vec![pods_alone(stage, callers, lost)?, restored_after_grace(&slices, lost)?])
}

/// Returns how long after the loss a caller of either node was last failed, kept waiting or answered by the laptop, in
/// milliseconds.
fn pods_alone(stage: &Stage<'_>, callers: Vec<Caller>, lost: Instant) -> anyhow::Result<f64> {
    stage.cart_is_a_pod()?;
    std::thread::sleep(SETTLED);
    Ok(ms(end_callers(callers)?.settled(lost, |name| !stage.is_hers(name))?))
}

/// Nothing of an intercept is left once its slice is gone: that is the last thing to go.
fn our_slices(stage: &Stage<'_>) -> anyhow::Result<Watch> {
    let ours =
        "kubernetes.io/service-name=cart,endpointslice.kubernetes.io/managed-by=fairlead.dev";
    Watch::begins(stage.world.lab(), &["-n", "shop", "endpointslices", "-l", ours])?
        .has_begun(PATIENCE)
}

/// Returns how long after the grace the Service was given back, in milliseconds.
fn restored_after_grace(slices: &Watch, lost: Instant) -> anyhow::Result<f64> {
    let patience = INTERCEPT_GRACE + PATIENCE;
    let gone = slices.until(patience, "the slice is gone", |published| published.is_deleted)?.at;
    Ok(ms(gone.duration_since(lost)) - ms(INTERCEPT_GRACE))
}
