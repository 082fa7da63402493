//! A laptop in chaos: daemon, both parts of the supervisor and the command itself are killed, held and slowed at random
//! moments. Nothing may be lost, and nothing left. `cargo xtask chaos` plays as many rounds as you like.

mod plan;
mod round;
mod strike;

use fairlead_tests::{Rounds, chaos_rounds};

use self::plan::Plan;

/// Always the same ones, and few: the suite is to be quick.
const ROUNDS: Rounds = Rounds { seed: 7, first: 1, last: 6 };
/// What plays a failed round again.
const AGAIN: &str = "cargo xtask chaos";
/// They wait more than they compute.
const AT_A_TIME: usize = 3;

#[test]
fn nothing_is_lost_in_chaos_and_nothing_is_left() {
    let rounds = chaos_rounds().expect("rounds, or none").unwrap_or(ROUNDS);
    rounds.play(AGAIN, AT_A_TIME, Plan::of, round::play).unwrap_or_else(|error| panic!("{error}"));
}
