//! Renders the charts. Shared by the tests and by the generator (`examples/gen-charts.rs`).

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::bail;

/// One committed rendering: where it lies, and what it is made of.
#[derive(Debug)]
pub(crate) struct Committed {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

/// Renders everything that is committed.
pub(crate) fn committed() -> anyhow::Result<Vec<Committed>> {
    let shop = template(&root("tests/shop/chart"), "shop", "shop", &[])?;
    let agent = template(&agent_chart(), "fairlead", "fairlead-system", &lab_values())?;
    Ok(vec![
        Committed {
            path: root("tests/shop/manifests/shop.yaml"),
            text: headed("tests/shop/chart", &shop),
        },
        Committed {
            path: root("tests/charts/golden/agent-cluster.yaml"),
            text: headed("deploy/charts/agent-cluster, with the lab's values", &agent),
        },
    ])
}

pub(crate) fn agent_chart() -> PathBuf {
    root("deploy/charts/agent-cluster")
}

/// Returns the arguments that make the agent's chart complete.
pub(crate) fn lab_values() -> Vec<String> {
    vec![format!("--values={}", root("tests/charts/values/lab.yaml").display())]
}

/// Runs `helm template`; an error carries what Helm says.
pub(crate) fn template(
    chart: &Path,
    release: &str,
    namespace: &str,
    more: &[String],
) -> anyhow::Result<String> {
    let mut helm = Command::new(fairlead_lab::tools::helm()?);
    helm.args(["template", release, "--namespace", namespace]).arg(chart).args(more);
    run(&mut helm)
}

/// Runs a command and returns what it prints; an error carries what it says.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output()?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Returns a path of the repository.
pub(crate) fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the root").join(path)
}

fn headed(source: &str, text: &str) -> String {
    format!("# What `helm template` makes of {source}; written by `cargo xtask gen`.\n{text}")
}
