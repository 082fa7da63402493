//! `chaos [--world] [--n N] [--seed S] [--round R]`: kills, holds and slows whatever runs while somebody works, and looks after each
//! round that nothing is lost and nothing left. Exits 1 when a round failed.

use crate::{
    setup::{self, Area},
    test::run_chaos,
    workspace::tell,
};
use clap::Args;
use std::{
    process::ExitCode,
    time::{SystemTime, UNIX_EPOCH},
};

#[derive(Debug, Args)]
pub(crate) struct Chaos {
    /// Strikes hub, agent, laptop and the ways between them on a real cluster, and not only what runs on a laptop
    #[arg(long)]
    world: bool,
    /// How many rounds
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    n: u32,
    /// Determines what happens in each round; another one each time unless it is given
    #[arg(long)]
    seed: Option<u64>,
    /// Plays this round of the seed and no other
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..), requires = "seed", conflicts_with = "n")]
    round: Option<u32>,
}

pub(crate) fn run(chaos: &Chaos) -> anyhow::Result<ExitCode> {
    setup::ensure(&[Area::Build, Area::Lab, Area::Hub])?;
    let seed = chaos.seed.map_or_else(new_seed, Ok)?;
    let (first, last) = chaos.round.map_or((1, chaos.n), |round| (round, round));
    tell(&format!("rounds {first} to {last} of seed {seed}"));
    run_chaos(&format!("{seed}:{first}-{last}"), chaos.world)?;
    Ok(ExitCode::SUCCESS)
}

/// Short enough to be typed.
fn new_seed() -> anyhow::Result<u64> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH)?;
    Ok(u64::from(since.subsec_micros()))
}
