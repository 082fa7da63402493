//! `gen`: every file that is made from others and committed, in the order in which they depend on each other.

use crate::{
    setup::{self, Area},
    test::console,
    workspace::{cargo, has, output, root, run as run_command, tell},
};
use anyhow::ensure;
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
    /// What must exist for it to be able to run.
    from: &'static str,
    run: fn() -> anyhow::Result<()>,
}

const STEPS: &[Step] = &[
    Step {
        name: "queries",
        makes: &["hub/store/.sqlx"],
        from: "hub/postgres/examples/gen-queries.rs",
        run: || {
            run_command(&mut cargo([
                "run",
                "--quiet",
                "--package",
                "private-postgres",
                "--example",
                "gen-queries",
            ]))
        },
    },
    Step {
        name: "openapi",
        makes: &["hub/openapi.json"],
        from: "hub/src/http/openapi.rs",
        run: || {
            run_command(&mut cargo([
                "test",
                "--quiet",
                "--package",
                "fairlead-hub",
                "--lib",
                "openapi::tests::regenerate",
                "--",
                "--ignored",
            ]))
        },
    },
    Step {
        name: "wire",
        makes: &["protocol/wire/src/gen"],
        from: "protocol/wire/examples/gen.rs",
        run: || {
            run_command(&mut cargo([
                "run",
                "--quiet",
                "--package",
                "fairlead-wire",
                "--example",
                "gen",
            ]))
        },
    },
    Step {
        name: "shop",
        makes: &["tests/shop/src/gen"],
        from: "tests/shop/examples/gen-shop.rs",
        run: || {
            run_command(&mut cargo([
                "run",
                "--quiet",
                "--package",
                "shop",
                "--example",
                "gen-shop",
            ]))
        },
    },
    Step {
        name: "charts",
        makes: &["tests/charts/golden", "tests/shop/manifests"],
        from: "tests/examples/gen-charts.rs",
        run: || {
            run_command(&mut cargo([
                "run",
                "--quiet",
                "--package",
                "fairlead-tests",
                "--example",
                "gen-charts",
            ]))
        },
    },
    Step {
        name: "commands",
        makes: &["docs/reference/cli.md"],
        from: "agent-local/cli/src/reference.rs",
        run: || {
            let reference = ["run", "--quiet", "--package", "fairlead-cli", "--", "reference"];
            let text = output(&mut cargo(reference))?;
            Ok(fs::write(root().join("docs/reference/cli.md"), text)?)
        },
    },
    Step {
        name: "web-api",
        makes: &["web/src/api/schema.d.ts"],
        from: "hub/openapi.json",
        run: || console(&["api"]),
    },
];

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
    Ok(ExitCode::SUCCESS)
}

/// Makes everything anew and fails when a file came out different from what was there.
pub(crate) fn assert_current() -> anyhow::Result<()> {
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
    setup::ensure(&[Area::Build, Area::Lab, Area::Hub, Area::Web])?;
    for step in steps.filter(|step| has(step.from)) {
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
