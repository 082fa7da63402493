//! `fairlead-supervisor cleanup`: the journal replayed backwards, when no supervisor runs; and `residue`, which only looks
//! and needs no root.

use std::io::{self, Write as _};

use anyhow::{Context as _, bail};
use laptop_footprint::{Change, Footprint};

use crate::{config::Config, lock};

pub(crate) fn run(config: &Config, dry_run: bool) -> anyhow::Result<()> {
    let Some(_lock) = lock::take(config)? else {
        bail!("a supervisor is running: use `fairlead cleanup`, or stop it first");
    };
    say(&Footprint::residue(&config.footprint())?)?;
    if !dry_run {
        Footprint::open(&config.footprint()).context("could not take everything back")?;
    }
    Ok(())
}

pub(crate) fn say_what_is_left(config: &Config) -> anyhow::Result<()> {
    Ok(say(&Footprint::residue(&config.footprint())?)?)
}

fn say(found: &[Change]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    for change in found {
        writeln!(stdout, "{change}")?;
    }
    stdout.flush()
}
