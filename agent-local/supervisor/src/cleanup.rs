//! `fairlead-supervisor cleanup`: the journal replayed backwards, when no supervisor runs.

use std::io::{self, Write as _};

use anyhow::{Context as _, bail};
use laptop_footprint::Footprint;

use crate::{config::Config, lock};

pub(crate) fn run(config: &Config, dry_run: bool) -> anyhow::Result<()> {
    let Some(_lock) = lock::take(config)? else {
        bail!("a supervisor is running: use `fairlead cleanup`, or stop it first");
    };
    let found = Footprint::residue(&config.footprint())?;
    let mut stdout = io::stdout().lock();
    for change in &found {
        writeln!(stdout, "{change}")?;
    }
    stdout.flush()?;
    if !dry_run {
        Footprint::open(&config.footprint()).context("could not take everything back")?;
    }
    Ok(())
}
