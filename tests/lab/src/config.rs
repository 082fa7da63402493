//! The one reader of the environment: where this user's caches are, and programs that stand in for others.

use anyhow::Context;
use std::path::PathBuf;

/// Returns the folder for what is built once per machine: `$XDG_CACHE_HOME/fairlead` or `~/.cache/fairlead`.
pub(crate) fn cache() -> anyhow::Result<PathBuf> {
    let folder = path("XDG_CACHE_HOME")
        .or_else(|| path("HOME").map(|home| home.join(".cache")))
        .context("neither XDG_CACHE_HOME nor HOME is set: there is no place for caches")?;
    Ok(folder.join("fairlead"))
}

/// Returns the search path for programs, with the folders of system programs that a plain user's path lacks.
pub(crate) fn search_path() -> String {
    let inherited = path("PATH").map(|value| value.display().to_string()).unwrap_or_default();
    format!("{inherited}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
}

/// Returns the folder of programs that stand in for those of the workspace, for a suite that needs them built otherwise.
pub(crate) fn programs() -> Option<PathBuf> {
    path("FAIRLEAD_PROGRAMS")
}

#[expect(clippy::disallowed_methods, reason = "this is the file that reads the environment")]
fn path(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}
