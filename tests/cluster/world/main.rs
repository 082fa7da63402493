//! The whole product on the lab, with nothing doubled: hub, agent, daemon, supervisor and command, on a real cluster
//! with a real identity provider. First the show and what developers do, then whatever can die, dies.
//!
//! One world for all stories; each must leave it as it found it. `cargo xtask test cluster --only hub` tells only
//! those whose names contain the word; in nftables mode, what kube-proxy has no bearing on is left out. What is measured
//! is in `cargo xtask bench`: nothing here is timed.

mod bad_input;
mod by_hand;
mod catalogue;
mod chaos;
mod console;
mod consuming;
mod deaths;
mod developer;
mod globex;
mod hard;
mod intercepting;
mod jobs;
mod laptop_lost;
mod lifecycle;
mod live_sessions;
mod lost_database;
mod networks;
mod outside;
mod owners;
mod pen;
mod refused;
mod replica_lost;
mod roaming;
mod side_by_side;
mod start_and_restore;
mod stray_agent;
mod taken_away;

use std::process::ExitCode;

use fairlead_tests::{Story, tell_stories};

fn main() -> ExitCode {
    tell_stories("world", &stories())
}

/// In the order in which they are told: the last ones take the agent away.
fn stories() -> Vec<Story> {
    let of = [
        developer::stories(),
        consuming::stories(),
        outside::stories(),
        side_by_side::stories(),
        // Before there is a second organization, when whoever signs in is asked for an address first.
        in_one_mode(console::stories()),
        in_one_mode(jobs::stories()),
        in_one_mode(refused::stories()),
        in_one_mode(taken_away::stories()),
        in_one_mode(bad_input::stories()),
        start_and_restore::stories(),
        catalogue::stories(),
        hard::stories(),
        owners::stories(),
        laptop_lost::stories(),
        in_one_mode(roaming::stories()),
        in_one_mode(networks::stories()),
        deaths::stories(),
        chaos::stories(),
        replica_lost::stories(),
        in_one_mode(lost_database::stories()),
        lifecycle::stories(),
    ];
    of.into_iter().flatten().collect()
}

fn in_one_mode(stories: Vec<Story>) -> Vec<Story> {
    stories.into_iter().map(Story::in_one_mode).collect()
}
