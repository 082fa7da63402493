//! The console's package: its modules, its scripts, and whether what was built of it is what there is.

use crate::workspace::{command, root, run as run_command};
use anyhow::Context;
use std::{fs, path::Path, process::Command, time::SystemTime};

/// What the console is built from, below `web`; everything else there is made.
const SOURCES: &[&str] = &[
    "src",
    "public",
    "index.html",
    "package.json",
    "package-lock.json",
    "tsconfig.json",
    "vite.config.ts",
];
/// The last file that a build writes.
const BUILT: &str = "dist/console/index.html";

/// Builds the console unless it is newer than everything it is built from.
pub(crate) fn ensure_built() -> anyhow::Result<()> {
    let web = root().join("web");
    let built = fs::metadata(web.join(BUILT)).and_then(|file| file.modified()).ok();
    let newest = newest(&web, SOURCES).context("web has no sources")?;
    if built.is_some_and(|built| built >= newest) {
        return Ok(());
    }
    fairlead_lab::Step::run("the console is built", || run(&["build"]))
}

/// Runs scripts of the console's package.
pub(crate) fn run(scripts: &[&str]) -> anyhow::Result<()> {
    install_modules("web")?;
    scripts.iter().try_for_each(|script| run_command(npm("web").args(["run", "--silent", script])))
}

/// Installs a folder's modules unless its lock file is the one they were installed from.
pub(crate) fn install_modules(folder: &str) -> anyhow::Result<()> {
    let folder_path = root().join(folder);
    let written = |file: &str| {
        folder_path.join(file).metadata().and_then(|metadata| metadata.modified()).ok()
    };
    if written("node_modules/.package-lock.json") >= written("package-lock.json") {
        return Ok(());
    }
    run_command(npm(folder).args(["ci", "--no-audit", "--no-fund"]))
}

pub(crate) fn npm(folder: &str) -> Command {
    let mut npm = command("npm", []);
    npm.current_dir(root().join(folder));
    npm
}

/// Returns when any of these files and folders was last written to; those that are not there count for nothing.
fn newest(folder: &Path, names: &[&str]) -> Option<SystemTime> {
    names.iter().filter_map(|name| newest_below(&folder.join(name))).max()
}

fn newest_below(path: &Path) -> Option<SystemTime> {
    let own = fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries.filter_map(|entry| newest_below(&entry.path())).chain(own).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_deep_below_and_a_folder_that_lost_one_both_count() {
        let web = root().join("web");
        let whole = newest(&web, &["src"]).expect("sources");
        let deep = newest(&web, &["src/features/sessions"]).expect("sources");
        assert!(whole >= deep);
        assert!(newest(&web, &["src"]) >= fs::metadata(web.join("src")).unwrap().modified().ok());
        assert_eq!(newest(&web, &["nothing-like-that"]), None);
    }
}
