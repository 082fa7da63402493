//! How soon an open connection ends when what it stands on is taken away: the membership of its user, their role, a
//! policy, the device, the session.
//!
//! A hundred people, each with a daemon and a session of their own, have one open connection each. The owner takes them
//! out one after the other by the hub's API, and the clock of each runs from the moment at which that request is sent
//! until the application's socket has ended. Others, whom nothing is taken from, work all the while.
//!
//! Everything is done once with links and once without: then neither laptop nor agent can be told anything, and what is
//! left is that the hub cuts the carriers at its relay.

mod admin;
mod flow;
mod links;
mod staff;
mod standing;
mod traffic;

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use fairlead_lab::Host;
use fairlead_tests::{Crowd, Figure, Line};

use self::{
    admin::Admin, flow::Flow, links::LinksDown, staff::Staff, standing::Standing, traffic::Traffic,
};
use crate::stage::{ms, tell};

const NAME: &str = "bench";
/// A hundred people twice: two hundred of each.
const ROUNDS: u32 = 2;
const STAFF: u8 = 100;
const BYSTANDERS: u8 = 8;
/// Between two requests of the owner: each has been answered before the next, and all of a round are sent within a few
/// seconds.
const PACE: Duration = Duration::from_millis(40);
const GATE_MS: f64 = 2000.0;

/// What is taken away, with or without links, and how long each connection outlived it.
struct Sample {
    standing: Standing,
    has_links: bool,
    outlived_ms: Vec<f64>,
}

impl Sample {
    fn name(&self) -> String {
        let links = if self.has_links { "" } else { ", links down" };
        format!("{}{links}: connection ends (p99)", self.standing.what())
    }
}

pub(crate) fn bench(rounds: Option<u32>) -> anyhow::Result<Vec<Figure>> {
    let rounds = rounds.unwrap_or(ROUNDS);
    let line = Line::up_among(NAME, Host::Hub, Crowd::of(STAFF + BYSTANDERS))?;
    let admin = Admin::sits_down(&line)?;
    let people: Vec<_> = line.crowd().collect();
    let (staff, bystanders) = people.split_at(usize::from(STAFF));
    tell("everybody signs in for the first time");
    let bystanders = Staff::hired(bystanders, &admin)?;
    let mut staff = Staff::hired(staff, &admin)?;
    let traffic = Traffic::begins(line.world().lab(), &bystanders.consume(&admin)?)?;
    let both = [true, false].map(|has_links| {
        Standing::ALL.map(|standing| Sample { standing, has_links, outlived_ms: Vec::new() })
    });
    let mut samples = both.into_iter().flatten().collect::<Vec<_>>();
    for number in 1..=rounds {
        for sample in &mut samples {
            let begun = Instant::now();
            let found = round(&line, &admin, &mut staff, sample)
                .with_context(|| format!("{}, round {number}", sample.name()))
                .with_context(|| line.world().last_words())?;
            tell(&format!(
                "round {number} of {rounds}, {}: at most {:.0} ms (took {:.0?})",
                sample.name(),
                found.iter().copied().fold(0.0, f64::max),
                begun.elapsed(),
            ));
            sample.outlived_ms.extend(found);
        }
    }
    let traffic = traffic.ends();
    line.down()?;
    let figures = samples
        .into_iter()
        .map(|sample| Figure::p99(&sample.name(), "ms", GATE_MS, sample.outlived_ms));
    let failed = vec![f64::from(traffic.failed)];
    let others = [
        Figure::median("1 KB asked meanwhile by others", "ms", traffic.asked_ms),
        Figure::worst("connections of others that failed or ended", "", 0.0, failed),
    ];
    Ok(figures.chain(others).collect())
}

/// Has everybody open a connection, takes away what they stand on, and gives it back.
fn round(
    line: &Line,
    admin: &Admin,
    staff: &mut Staff<'_>,
    sample: &Sample,
) -> anyhow::Result<Vec<f64>> {
    let lab = line.world().lab();
    let ready = staff.consume(admin)?;
    let open = |ready: &staff::Ready| Flow::opens(lab, ready.uid, ready.address);
    let flows = ready.iter().map(open).collect::<anyhow::Result<Vec<_>>>()?;
    let cut = (!sample.has_links).then(|| LinksDown::cut(lab)).transpose()?;
    let mut taken = Vec::new();
    let mut forbidden = Vec::new();
    for person in &ready {
        let next = Instant::now() + PACE;
        taken.push(sample.standing.is_taken_from(person, admin, &mut forbidden)?);
        sleep(next.saturating_duration_since(Instant::now()));
    }
    let ended = flows.into_iter().map(Flow::end).collect::<anyhow::Result<Vec<_>>>()?;
    cut.map_or(Ok(()), LinksDown::mend)?;
    sample.standing.is_given_back(&ready, admin)?;
    staff.must_sign_in(sample.standing.is_sign_in());
    let outlived = taken.into_iter().zip(ended).map(|(taken, ended)| {
        let outlived = ended.checked_duration_since(taken);
        Ok(ms(outlived.context("a connection ended before anything was taken away")?))
    });
    outlived.collect()
}
