//! The only reader of the environment: where a user's files lie, through whom hubs are dialled, and whether colour is
//! wanted.

use std::{ffi::OsString, path::PathBuf};

use fairlead_model::{InvalidProxySettings, ProxySettings};

/// Where the user's things lie, by the XDG rules.
#[derive(Debug, Clone)]
pub(crate) struct Folders {
    pub(crate) config: PathBuf,
    pub(crate) state: PathBuf,
}

impl Folders {
    /// Returns the folders; a flag wins over the environment.
    pub(crate) fn find(config: Option<PathBuf>, state: Option<PathBuf>) -> Self {
        Self {
            config: config.unwrap_or_else(|| under_home("XDG_CONFIG_HOME", ".config")),
            state: state.unwrap_or_else(|| under_home("XDG_STATE_HOME", ".local/state")),
        }
    }
}

fn under_home(variable: &str, otherwise: &str) -> PathBuf {
    // The specification wants relative values to be ignored.
    let base = read(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || PathBuf::from(read("HOME").unwrap_or_else(|| "/".into())).join(otherwise);
    base.unwrap_or_else(home).join("fairlead")
}

/// Returns what this shell says about proxies.
pub(crate) fn proxies() -> Result<ProxySettings, InvalidProxySettings> {
    ProxySettings::read(|variable| read(variable)?.into_string().ok())
}

/// Says whether colour may be used at all.
pub(crate) fn colour_is_welcome() -> bool {
    read("NO_COLOR").is_none() && read("TERM").is_none_or(|term| term != "dumb")
}

#[expect(clippy::disallowed_methods, reason = "this is the file that reads the environment")]
fn read(variable: &str) -> Option<OsString> {
    std::env::var_os(variable).filter(|value| !value.is_empty())
}
