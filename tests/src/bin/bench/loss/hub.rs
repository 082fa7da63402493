//! The hub is killed and started again. Meanwhile pods answer in the laptop's place; figures count from the moment at which
//! it listens again, whatever had kept it away.

use std::{
    net::{Ipv4Addr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use anyhow::anyhow;
use fairlead_lab::Host;
use fairlead_tests::{end_callers, within};

use super::{Event, Sample};
use crate::stage::{PATIENCE, SETTLED, Stage, ms};

/// As long as it takes to replace a hub: whoever waits longer and longer between attempts waits long by then.
const AWAY: Duration = Duration::from_secs(15);
const PORT: u16 = 8443;
const LOOK: Duration = Duration::from_millis(5);

pub(super) fn events() -> Vec<Event> {
    vec![Event {
        what: "the hub is killed and started again",
        happens: restarted,
        samples: vec![
            Sample::of("hub restarted: consume is back after it listens and", "ms", 2000.0),
            Sample::of("hub restarted: every new connection at the laptop after", "ms", 2000.0),
            Sample::of("hub away and back: new connections that fail", "", 0.0),
        ],
    }]
}

fn restarted(stage: &Stage<'_>, _: u32) -> anyhow::Result<Vec<f64>> {
    let asks = || stage.ada.asks("http://frontend.shop");
    stage.ada_intercepts()?;
    stage.ada.fairlead(&["consume", "shop/frontend"])?.ok()?;
    within(PATIENCE, "consume works", asks)?;
    let callers = stage.cart.callers()?;
    let mut hub = stage.world.hub();
    let alive = Instant::now();
    hub.kill()?;
    let killed = Instant::now();
    stage.cart_is_a_pod()?;
    thread::sleep(AWAY.saturating_sub(killed.elapsed()));
    let listening = stage.world.lab().on(Host::Hub, listens)?;
    let consumed = thread::scope(|scope| {
        let consumed =
            scope.spawn(|| within(PATIENCE, "consume is back", asks).map(|_| Instant::now()));
        hub.start_again(stage.world.lab())?;
        consumed.join().map_err(|_| anyhow!("whoever asks panicked"))?
    })?;
    let listening = listening.join().map_err(|_| anyhow!("whoever looks panicked"))?;
    stage.cart.is_answered_by("ada", |name| stage.is_hers(name), PATIENCE)?;
    thread::sleep(SETTLED);
    let calls = end_callers(callers)?;
    let back = calls.between(listening, Instant::now());
    let back = back.moved(listening, |name| stage.is_hers(name))?;
    let failed = calls.not_under_way(alive, killed).failed();
    drop(hub);
    stage.ada_leaves()?;
    stage.ada.fairlead(&["consume", "clear"])?.ok()?;
    stage.world.both_replicas_are_linked()?;
    let consumed = ms(consumed.saturating_duration_since(listening));
    Ok(vec![consumed, ms(back.all), f64::from(u32::try_from(failed)?)])
}

/// Returns the moment from which on somebody listens at the hub's port.
fn listens() -> Instant {
    let begun = Instant::now();
    while TcpStream::connect((Ipv4Addr::LOCALHOST, PORT)).is_err() && begun.elapsed() < PATIENCE {
        thread::sleep(LOOK);
    }
    Instant::now()
}
