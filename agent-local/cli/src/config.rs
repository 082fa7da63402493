//! The only reader of the environment: where a user's files lie, through whom hubs are dialled, what a program of `run` finds
//! there, how a job signs in, and whether colour is wanted.

use std::{
    ffi::{OsStr, OsString},
    path::PathBuf,
};

use fairlead_model::{InvalidProxySettings, ProxySettings};

/// The last one is how Windows is known from within its Linux, whose browser it is.
const DISPLAYS: [&str; 4] = ["DISPLAY", "WAYLAND_DISPLAY", "BROWSER", "WSL_DISTRO_NAME"];
/// Programs heed one spelling or the other.
const PROXIES: [&str; 6] =
    ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];
const EXCEPTIONS: [&str; 2] = ["no_proxy", "NO_PROXY"];

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

/// Returns the proxies' exceptions with these added, by the names of the variables; none where no proxy is set.
pub(crate) fn past_proxies(names: &[String]) -> Vec<(&'static str, String)> {
    let is_proxied = PROXIES.iter().any(|variable| read(variable).is_some());
    let exceptions = EXCEPTIONS.iter().filter(|_| is_proxied);
    exceptions.map(|variable| (*variable, with_exceptions(read(variable), names))).collect()
}

fn with_exceptions(before: Option<OsString>, names: &[String]) -> String {
    let before = before.and_then(|value| value.into_string().ok());
    before
        .iter()
        .map(String::as_str)
        .chain(names.iter().map(String::as_str))
        .collect::<Vec<_>>()
        .join(",")
}

/// Says whether a program may be found: it is named by its path, or a folder of the PATH has it.
pub(crate) fn is_in_path(program: &OsStr) -> bool {
    let has_it = |folder: PathBuf| folder.join(program).exists();
    let path = read("PATH").unwrap_or_else(|| "/bin:/usr/bin".into());
    program.as_encoded_bytes().contains(&b'/') || std::env::split_paths(&path).any(has_it)
}

/// What has the token of a service account; no program that is run for the job sees it.
pub(crate) const TOKEN_VARIABLE: &str = "FAIRLEAD_TOKEN";

/// Returns the token of a service account, where a job has one.
pub(crate) fn api_token() -> Option<String> {
    read(TOKEN_VARIABLE).and_then(|token| token.into_string().ok())
}

/// Returns the address of the hub that a job means.
pub(crate) fn hub() -> Option<String> {
    read("FAIRLEAD_HUB").and_then(|hub| hub.into_string().ok())
}

/// Says whether a browser may open here: on Linux somebody sits before a display, or says how.
pub(crate) fn has_display() -> bool {
    !cfg!(target_os = "linux") || DISPLAYS.iter().any(|variable| read(variable).is_some())
}

/// Says whether colour may be used at all.
pub(crate) fn colour_is_welcome() -> bool {
    read("NO_COLOR").is_none() && read("TERM").is_none_or(|term| term != "dumb")
}

#[expect(clippy::disallowed_methods, reason = "this is the file that reads the environment")]
fn read(variable: &str) -> Option<OsString> {
    std::env::var_os(variable).filter(|value| !value.is_empty())
}

/// The proxy variables of this environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProxyVariables {
    /// The names of those that are set.
    pub(crate) set: Vec<String>,
    pub(crate) no_proxy: Vec<String>,
}

pub(crate) fn proxy_variables() -> ProxyVariables {
    const NAMES: [&str; 6] =
        ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];
    let no_proxy = read("no_proxy").or_else(|| read("NO_PROXY")).unwrap_or_default();
    let names = no_proxy
        .to_string_lossy()
        .split(',')
        .map(|name| name.trim().to_owned())
        .collect::<Vec<_>>();
    ProxyVariables {
        set: NAMES.into_iter().filter(|name| read(name).is_some()).map(str::to_owned).collect(),
        no_proxy: names.into_iter().filter(|name| !name.is_empty()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exceptions_of_before_stay() {
        let names = [".shop".to_owned(), "cart".to_owned()];
        assert_eq!(with_exceptions(Some("10.0.0.0/8".into()), &names), "10.0.0.0/8,.shop,cart");
        assert_eq!(with_exceptions(None, &names), ".shop,cart");
    }
}
