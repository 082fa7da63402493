//! `gen`: every file that is made from others and committed, in the order in which they depend on each other.

use crate::{
    console,
    setup::{self, Area},
    workspace::{
        build_for_tests, cargo_for_tests, output, root, run as run_command, run_quietly, tell,
    },
};
use anyhow::{Context, ensure};
use clap::Args;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
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
    Step { name: "queries", makes: &["hub/store/.sqlx"], run: || example("gen-queries") },
    Step {
        name: "openapi",
        makes: &["hub/openapi.json"],
        run: || writer(&["--lib", "openapi::tests::regenerate"]),
    },
    Step {
        name: "matrix",
        makes: &["hub/policy/tests/matrix.txt"],
        run: || writer(&["--test", "matrix", "regenerate"]),
    },
    Step {
        name: "access",
        makes: &["hub/tests/access.txt"],
        run: || writer(&["--test", "it", "access::regenerate"]),
    },
    Step { name: "wire", makes: &["protocol/wire/src/gen"], run: || example("gen") },
    Step { name: "shop", makes: &["tests/shop/src/gen"], run: || example("gen-shop") },
    Step {
        name: "charts",
        makes: &["tests/charts/golden", "tests/shop/manifests"],
        run: || example("gen-charts"),
    },
    Step {
        name: "commands",
        makes: &["docs/reference/cli.md"],
        run: || {
            run_command(build_for_tests(&["--bin", "fairlead"]).arg("--quiet"))?;
            let text = output(Command::new(fairlead_lab::sibling("fairlead")?).arg("reference"))?;
            Ok(fs::write(root().join("docs/reference/cli.md"), text)?)
        },
    },
    Step { name: "web-api", makes: &["web/src/api/schema.d.ts"], run: || console::run(&["api"]) },
];

/// Runs an example that writes what it makes.
fn example(name: &str) -> anyhow::Result<()> {
    run_command(cargo_for_tests("build").args(["--quiet", "--example", name]))?;
    let program = fairlead_lab::sibling(&format!("examples/{name}"))?;
    run_command(Command::new(program).current_dir(root()))
}

/// Runs a test that writes what its neighbours compare.
fn writer(test: &[&str]) -> anyhow::Result<()> {
    run_quietly(cargo_for_tests("test").arg("--quiet").args(test).args(["--", "--ignored"]))
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
    let held = ["--quiet", "--lib", "reference::"];
    run_quietly(cargo_for_tests("test").args(held))
        .context("docs/reference/wire.md and the code disagree")
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
