//! `demo`: builds what the demo shows and lets it play.

use crate::{
    setup::{self, Area},
    workspace::{become_command, cargo, run as run_command, sudo},
};
use clap::Args;
use std::process::ExitCode;

#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Ends after the show; the exit status says whether each step held
    #[arg(long)]
    once: bool,
}

pub(crate) fn run(demo: &Demo) -> anyhow::Result<ExitCode> {
    setup::ensure(&[Area::Build, Area::Lab, Area::Hub])?;
    run_command(&mut cargo(["build", "--workspace", "--bins"]))?;
    let mut show = sudo(fairlead_lab::sibling("demo")?);
    if demo.once {
        show.arg("--once");
    }
    become_command(&mut show)
}
