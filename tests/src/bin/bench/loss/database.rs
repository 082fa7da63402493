//! The hub's database is stopped for a minute. What is open goes on, what is new is refused in words, and everything is
//! there again by itself.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::ensure;
use fairlead_lab::Host;
use fairlead_tests::{end_callers, within};

use super::{Event, Sample};
use crate::stage::{CART, PATIENCE, SETTLED, Stage, ms};

const STOPPED: Duration = Duration::from_secs(60);
/// Between two words in a conversation.
const TALK_EVERY: Duration = Duration::from_secs(5);
const ASKS: &str = "GET /who HTTP/1.1\r\nHost: cart\r\n\r\n";
/// What the command ends with when the hub cannot do what it is asked.
const UNREACHABLE: i32 = 40;

pub(super) fn events() -> Vec<Event> {
    vec![Event {
        what: "the database is stopped for a minute",
        happens: stopped,
        samples: vec![
            Sample::of("database stopped: new connections that fail, or leave the laptop", "", 0.0),
            Sample::of("database back: something new begins after", "ms", 5000.0),
        ],
    }]
}

fn stopped(stage: &Stage<'_>, _: u32) -> anyhow::Result<Vec<f64>> {
    let ada = &stage.ada;
    stage.ada_intercepts()?;
    ada.fairlead(&["consume", "shop/*"])?.ok()?;
    let mut consumed = ada.converses_with("ledger.shop:7000")?;
    let mut intercepted = stage.cart.conversation(Host::Node1)?;
    let mut talk = || {
        consumed.is_answered("a line\n", "a line")?;
        intercepted.is_answered(ASKS, &ada.laptop())
    };
    talk()?;
    let callers = stage.cart.callers()?;
    let (stopped, since) = (stage.world.hub().stops_database()?, Instant::now());
    thread::scope(|scope| {
        let refused = scope.spawn(|| ada.is_refused(&["consume", "shop/cart"], UNREACHABLE));
        while since.elapsed() < STOPPED {
            talk()?;
            ada.asks("http://frontend.shop")?;
            thread::sleep(TALK_EVERY);
        }
        let said = refused.join().map_err(|_| anyhow::anyhow!("whoever asks panicked"))??;
        ensure!(said.contains("database") && said.contains("hint: "), "{said}");
        anyhow::Ok(())
    })?;
    drop(stopped);
    let begins = || ada.fairlead(&["intercept", "shop/catalog", "3000:80"])?.ok();
    let (_, begun_after) = within(PATIENCE, "something new begins", begins)?;
    thread::sleep(SETTLED);
    talk()?;
    let calls = end_callers(callers)?;
    let strayed = calls.failed() + calls.answered_by(|name| !stage.is_hers(name));
    ada.is_shown(CART, "active")?;
    ada.fairlead(&["leave", "--all"])?.ok()?;
    ada.fairlead(&["consume", "clear"])?.ok()?;
    stage.cart_is_a_pod()?;
    thread::sleep(SETTLED);
    stage.world.both_replicas_are_linked()?;
    Ok(vec![f64::from(u32::try_from(strayed)?), ms(begun_after)])
}
