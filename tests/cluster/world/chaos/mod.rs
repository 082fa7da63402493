//! The whole product in chaos: hub, database, agent, daemon, supervisor and the ways between them are struck at random moments of
//! random sessions. After each round everything stands that should, and when ada has stopped, nothing is left.
//!
//! Told only when `cargo xtask chaos --world` asks for rounds of it: one takes half a minute.

mod plan;
mod round;
mod strike;

use fairlead_tests::{Rounds, Story, World, chaos_rounds};

use self::plan::Plan;

/// What plays a failed round again.
const AGAIN: &str = "cargo xtask chaos --world";

pub(crate) fn stories() -> Vec<Story> {
    let story = |rounds: Rounds| {
        Story::new("nothing is lost in chaos and nothing is left", move |world| {
            rounds.play(AGAIN, 1, Plan::of, |plan| play(world, plan))
        })
    };
    chaos_rounds().expect("rounds, or none").map(story).into_iter().collect()
}

/// Plays a round. After one that failed the next one has a world that works.
fn play(world: &World, plan: &Plan) -> anyhow::Result<()> {
    round::play(world, plan).map_err(|error| {
        let words = world.last_words();
        let cleared =
            world.clears_up().map_or_else(|error| format!("{error:#}"), |()| String::new());
        error.context(format!("{words}\n{cleared}"))
    })
}
