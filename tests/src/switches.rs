//! What a suite is told from outside: by its environment, and by the words that cargo passes to a test program.

use anyhow::{Context, bail};
use fairlead_lab::ProxyMode;

use crate::chaos::Rounds;

const PROXY_MODE: &str = "FAIRLEAD_PROXY_MODE";
const CHAOS: &str = "FAIRLEAD_CHAOS";

/// Returns the mode in which kube-proxy shall run: iptables unless `FAIRLEAD_PROXY_MODE` names another one.
#[expect(clippy::disallowed_methods, reason = "the suites' one reader of the environment")]
pub fn proxy_mode() -> anyhow::Result<ProxyMode> {
    match std::env::var(PROXY_MODE) {
        Ok(mode) => mode.parse().context(PROXY_MODE),
        Err(std::env::VarError::NotPresent) => Ok(ProxyMode::Iptables),
        Err(error) => Err(error).context(PROXY_MODE),
    }
}

/// Returns the rounds of chaos that `FAIRLEAD_CHAOS` names, if it does.
#[expect(clippy::disallowed_methods, reason = "the suites' one reader of the environment")]
pub fn chaos_rounds() -> anyhow::Result<Option<Rounds>> {
    match std::env::var(CHAOS) {
        Ok(rounds) => rounds.parse().map(Some).context(CHAOS),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(error) => Err(error).context(CHAOS),
    }
}

/// Which stories are meant, and whether they are only to be listed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Meant {
    pub(crate) is_list: bool,
    filters: Vec<String>,
}

impl Meant {
    /// Reads the words of a command line, as `cargo test -- WORDS` passes them on.
    pub(crate) fn read(words: impl IntoIterator<Item = String>) -> anyhow::Result<Self> {
        let mut meant = Self::default();
        for word in words {
            match word.as_str() {
                "--list" => meant.is_list = true,
                // A world is played one story at a time, and what a story says is always shown.
                "--test-threads=1" | "--nocapture" => {}
                option if option.starts_with('-') => bail!("stories know no option `{option}`"),
                _ => meant.filters.push(word),
            }
        }
        Ok(meant)
    }

    pub(crate) fn names_some(&self) -> bool {
        !self.filters.is_empty()
    }

    /// Says whether a story of this name is meant: every one, or those that contain one of the words.
    pub(crate) fn includes(&self, name: &str) -> bool {
        self.filters.is_empty() || self.filters.iter().any(|filter| name.contains(filter))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[&str]) -> anyhow::Result<Meant> {
        Meant::read(words.iter().map(|word| (*word).to_owned()))
    }

    #[test]
    fn every_story_is_meant_unless_some_are_named() {
        assert!(read(&[]).expect("nothing").includes("a killed hub"));
        let meant = read(&["hub", "cut", "--test-threads=1"]).expect("words");
        assert!(meant.includes("a killed hub") && meant.includes("a cut node"));
        assert!(!meant.includes("a killed daemon"));
    }

    #[test]
    fn an_option_that_nobody_knows_is_refused() {
        assert!(read(&["--lits"]).is_err());
        assert!(read(&["--list"]).expect("known").is_list);
    }
}
