//! `check`: everything that can be said about the code without running it.

use crate::{
    generate,
    setup::{self, Area},
    stage::Stages,
    workspace::{cargo, command, run as run_command},
};
use std::{path::PathBuf, process::ExitCode};

const DENY_VERSION: &str = "0.20.2";

pub(crate) fn run() -> anyhow::Result<ExitCode> {
    setup::ensure(&[Area::Build, Area::Lab, Area::Hub, Area::Console])?;
    let mut stages = Stages::default();
    stages.run("format", || run_command(&mut cargo(["fmt", "--all", "--check"])));
    stages.run("lints", || {
        run_command(&mut cargo([
            "clippy",
            "--workspace",
            "--all-targets",
            "--",
            "--deny",
            "warnings",
        ]))
    });
    stages.run("documents", documents);
    stages.run("dependencies", dependencies);
    stages.run("generated", generate::assert_current);
    Ok(stages.close())
}

fn documents() -> anyhow::Result<()> {
    let mut doc = cargo(["doc", "--workspace", "--no-deps", "--document-private-items", "--quiet"]);
    run_command(doc.env("RUSTDOCFLAGS", "--deny warnings --allow rustdoc::private_intra_doc_links"))
}

/// Advisories are left out: their database comes from a host that not every machine reaches.
fn dependencies() -> anyhow::Result<()> {
    let deny = deny()?;
    run_command(&mut command(
        &deny.display().to_string(),
        [
            "--workspace",
            "--log-level",
            "error",
            "check",
            "--hide-inclusion-graph",
            "bans",
            "licenses",
            "sources",
        ],
    ))
}

/// Returns cargo-deny, built once per machine; without optimization that takes a third of the time.
fn deny() -> anyhow::Result<PathBuf> {
    let tools = fairlead_lab::tools::folder()?;
    let program = tools.join(format!("cargo-deny-{DENY_VERSION}/bin/cargo-deny"));
    if !program.exists() {
        fairlead_lab::Step::run(
            "cargo-deny is built (once per machine: 1 min on 2 cores)",
            || {
                let mut install =
                    cargo(["install", "cargo-deny", "--locked", "--debug", "--quiet"]);
                install.args(["--version", DENY_VERSION, "--root"]);
                // Outside the checkout: the workspace's own target and flags are not for it.
                run_command(
                    install.arg(tools.join(format!("cargo-deny-{DENY_VERSION}"))).current_dir("/"),
                )
            },
        )?;
    }
    Ok(program)
}
