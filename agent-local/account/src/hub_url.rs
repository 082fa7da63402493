//! The hub's address, as a person types it and as files are named after it.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use url::Url;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not the address of a hub: {why}")]
pub struct InvalidHubUrl {
    text: String,
    why: &'static str,
}

/// `https://host[:port]`, nothing behind it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HubUrl(Url);

impl HubUrl {
    /// Returns the address of something at the hub.
    #[must_use]
    pub fn join(&self, path: &str) -> Url {
        self.0.join(path).expect("our paths are valid")
    }

    #[must_use]
    pub fn host(&self) -> &str {
        self.0.host_str().expect("checked by parse")
    }

    /// Returns the name of the folder that belongs to this hub.
    pub(crate) fn folder_name(&self) -> String {
        match self.0.port() {
            Some(port) => format!("{}_{port}", self.host()),
            None => self.host().to_owned(),
        }
    }
}

impl FromStr for HubUrl {
    type Err = InvalidHubUrl;

    fn from_str(text: &str) -> Result<Self, InvalidHubUrl> {
        let invalid = |why| InvalidHubUrl { text: text.to_owned(), why };
        let with_scheme =
            if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
        let url = Url::parse(&with_scheme)
            .map_err(|_| invalid("expected for example `https://hub.example.com`"))?;
        if url.scheme() != "https" {
            return Err(invalid("it must begin with `https://`"));
        }
        if url.host_str().is_none_or(str::is_empty) {
            return Err(invalid("it names no host"));
        }
        if url.path() != "/" || url.query().is_some() || !url.username().is_empty() {
            return Err(invalid("it ends after the host and the port"));
        }
        Ok(Self(url))
    }
}

impl fmt::Display for HubUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.0.as_str().trim_end_matches('/'))
    }
}

impl TryFrom<String> for HubUrl {
    type Error = InvalidHubUrl;

    fn try_from(text: String) -> Result<Self, InvalidHubUrl> {
        text.parse()
    }
}

impl From<HubUrl> for String {
    fn from(url: HubUrl) -> Self {
        url.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_host_is_enough() {
        let hub: HubUrl = "hub.example.com".parse().expect("valid");
        assert_eq!(hub.to_string(), "https://hub.example.com");
        assert_eq!(hub.join("/api/v1/me").as_str(), "https://hub.example.com/api/v1/me");
    }

    #[test]
    fn two_hubs_on_one_host_have_two_folders() {
        let folder = |text: &str| text.parse::<HubUrl>().expect("valid").folder_name();
        assert_ne!(folder("https://hub.example.com"), folder("https://hub.example.com:8443/"));
    }

    #[test]
    fn what_is_no_hub_says_why() {
        for (text, why) in [
            ("http://hub", "https"),
            ("https://hub/console", "ends after"),
            ("https://", "expected"),
            ("https://ada@hub", "ends after"),
        ] {
            let error = text.parse::<HubUrl>().expect_err(text).to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
