//! `demo`: builds what the demo shows and lets it play.

use crate::{
    console,
    setup::{self, Area},
    transcript,
    workspace::{become_command, cargo, output, root, run as run_command, sudo},
};
use clap::Args;
use std::process::{ExitCode, Stdio};

#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Ends after the show; the exit status says whether each step held
    #[arg(long)]
    once: bool,
    /// Writes what was shown into README.md
    #[arg(long, requires = "once")]
    readme: bool,
}

pub(crate) fn run(demo: &Demo) -> anyhow::Result<ExitCode> {
    setup::ensure(&[Area::Build, Area::Lab, Area::Hub, Area::Console])?;
    // Before the hub, which serves it.
    console::ensure_built()?;
    run_command(&mut cargo(["build", "--workspace", "--bins"]))?;
    let mut show = sudo(fairlead_lab::sibling("demo")?);
    if demo.once {
        show.arg("--once");
    }
    if !demo.readme {
        return become_command(&mut show);
    }
    let shown = String::from_utf8(output(show.stderr(Stdio::inherit()))?)?;
    let readme = root().join("README.md");
    std::fs::write(&readme, transcript::replaced(&std::fs::read_to_string(&readme)?, &shown)?)?;
    Ok(ExitCode::SUCCESS)
}
