//! `gen`: every file that is made from others and committed, in the order in which they depend on each other.

use crate::{
    console,
    setup::{self, Area},
    workspace::{cargo, output, root, run as run_command, tell},
};
use anyhow::{Context, ensure};
use clap::Args;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

#[derive(Debug, Args)]
pub(crate) struct Gen {
    /// Only the steps with these names; see --list
    steps: Vec<String>,
    /// Lists the steps and what each makes
    #[arg(long)]
    list: bool,
}

/// One generator.
struct Step {
    name: &'static str,
    /// Files and folders it makes; nothing else may be in these folders.
    makes: &'static [&'static str],
    run: fn() -> anyhow::Result<()>,
}

const STEPS: &[Step] = &[
    Step {
        name: "queries",
        makes: &["hub/store/.sqlx"],
        run: || example("private-postgres", "gen-queries"),
    },
    Step {
        name: "openapi",
        makes: &["hub/openapi.json"],
        run: || writer(&["--package", "fairlead-hub"], &["--lib", "openapi::tests::regenerate"]),
    },
    Step {
        name: "matrix",
        makes: &["hub/policy/tests/matrix.txt"],
        run: || writer(WITH_ALL, &["--test", "matrix", "regenerate"]),
    },
    Step {
        name: "access",
        makes: &["hub/tests/access.txt"],
        run: || writer(WITH_ALL, &["--test", "it", "access::regenerate"]),
    },
    Step {
        name: "wire",
        makes: &["protocol/wire/src/gen"],
        run: || example("fairlead-wire", "gen"),
    },
    Step { name: "shop", makes: &["tests/shop/src/gen"], run: || example("shop", "gen-shop") },
    Step {
        name: "charts",
        makes: &["tests/charts/golden", "tests/shop/manifests"],
        run: || example("fairlead-tests", "gen-charts"),
    },
    Step {
        name: "commands",
        makes: &["docs/reference/cli.md"],
        run: || {
            let reference = ["run", "--quiet", "--package", "fairlead-cli", "--", "reference"];
            let text = output(&mut cargo(reference))?;
            Ok(fs::write(root().join("docs/reference/cli.md"), text)?)
        },
    },
    Step { name: "web-api", makes: &["web/src/api/schema.d.ts"], run: || console::run(&["api"]) },
];

/// As `cargo xtask test unit` builds: with another choice of packages, their dependencies are built once more.
const WITH_ALL: &[&str] = &["--workspace", "--exclude", "fairlead-tests"];

/// Runs an example that writes what it makes.
fn example(package: &str, name: &str) -> anyhow::Result<()> {
    run_command(&mut cargo(["run", "--quiet", "--package", package, "--example", name]))
}

/// Runs a test that writes what its neighbours compare.
fn writer(of: &[&str], test: &[&str]) -> anyhow::Result<()> {
    let mut cargo = cargo(["test", "--quiet"]);
    run_command(cargo.args(of).args(test).args(["--", "--ignored"]))
}

pub(crate) fn run(gen_: &Gen) -> anyhow::Result<ExitCode> {
    for step in STEPS.iter().filter(|_| gen_.list) {
        tell(&format!("{:<10} {}", step.name, step.makes.join(", ")));
    }
    if gen_.list {
        return Ok(ExitCode::SUCCESS);
    }
    for name in &gen_.steps {
        ensure!(
            STEPS.iter().any(|step| step.name == name),
            "no step `{name}`; see cargo xtask gen --list"
        );
    }
    let wanted =
        |step: &&Step| gen_.steps.is_empty() || gen_.steps.iter().any(|name| name == step.name);
    make(STEPS.iter().filter(wanted))?;
    if gen_.steps.is_empty() {
        assert_written_pages()?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The pages that people write and code must agree with; they cannot be made, only be held against it.
fn assert_written_pages() -> anyhow::Result<()> {
    let held = ["test", "--quiet", "--package", "fairlead-tunnel", "--lib", "reference::"];
    run_command(&mut cargo(held)).context("docs/reference/wire.md and the code disagree")
}

/// Makes everything anew and fails when a file came out different from what was there.
pub(crate) fn assert_current() -> anyhow::Result<()> {
    assert_written_pages()?;
    let before = content()?;
    make(STEPS.iter())?;
    let after = content()?;
    let paths = before.keys().chain(after.keys());
    let mut changed: Vec<_> = paths.filter(|path| before.get(*path) != after.get(*path)).collect();
    changed.sort();
    changed.dedup();
    let list = changed.iter().map(|path| format!("\n  {}", path.display())).collect::<String>();
    ensure!(
        changed.is_empty(),
        "generated files were out of date and have been made anew; commit them:{list}"
    );
    Ok(())
}

fn make<'a>(steps: impl Iterator<Item = &'a Step>) -> anyhow::Result<()> {
    setup::ensure(&[Area::Build, Area::Lab, Area::Hub, Area::Console])?;
    for step in steps {
        fairlead_lab::Step::run(step.name, step.run)?;
    }
    Ok(())
}

fn content() -> anyhow::Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut files = BTreeMap::new();
    for path in STEPS.iter().flat_map(|step| step.makes) {
        collect(&root().join(path), &mut files)?;
    }
    Ok(files)
}

fn collect(path: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) -> anyhow::Result<()> {
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            collect(&entry?.path(), files)?;
        }
    } else if path.exists() {
        files.insert(path.to_path_buf(), fs::read(path)?);
    }
    Ok(())
}
