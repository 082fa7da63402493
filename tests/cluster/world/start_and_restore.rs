//! Nobody who calls a Service notices that it is intercepted and given back.

use anyhow::ensure;
use fairlead_tests::{Story, World, end_callers};

use crate::intercepting::{LEAVE, scene};

pub(crate) fn stories() -> Vec<Story> {
    vec![Story::new("start and restore fail no connection", no_connection_fails)]
}

fn no_connection_fails(world: &World) -> anyhow::Result<()> {
    scene(world, |scene| {
        let callers = scene.cart.callers()?;
        for _ in 0..2 {
            scene.ada_intercepts()?;
            scene.ada.fairlead(&LEAVE)?.ok()?;
            scene.cart_is_a_pod()?;
        }
        let calls = end_callers(callers)?;
        calls.none_failed()?;
        let laptop = scene.ada.laptop();
        ensure!(calls.answered_by(|name| name == laptop) > 0, "none of them came to the laptop");
        ensure!(calls.answered_by(|name| name != laptop) > 0, "none of them came to a pod");
        Ok(())
    })
}
