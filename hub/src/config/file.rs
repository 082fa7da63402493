//! What can be said in the configuration file.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use ipnet::IpNet;
use secrecy::SecretString;
use serde::Deserialize;
use url::Url;

use super::{ConfigError, LogFormat, TlsFiles};

/// Where installed packages keep the configuration; used when it is there and no other is named.
const DEFAULT_FILE: &str = "/etc/fairlead/hub.toml";

/// The file. Every field is optional, because a flag may stand for it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    pub(super) public_url: Option<Url>,
    pub(super) listen: Option<SocketAddr>,
    pub(super) relay_listen: Option<SocketAddr>,
    pub(super) relay_address: Option<String>,
    pub(super) database_url: Option<SecretString>,
    pub(super) master_key_file: Option<PathBuf>,
    pub(super) tls: Option<TlsFiles>,
    pub(super) issuer_ca: Option<PathBuf>,
    pub(super) allow_http_issuers: bool,
    pub(super) trusted_proxies: Option<Vec<IpNet>>,
    pub(super) log: Option<LogFormat>,
}

impl File {
    /// Reads the named file, or the default one if it is there.
    pub(super) fn find(named: Option<&Path>) -> Result<Self, ConfigError> {
        match named {
            Some(path) => Self::read(path),
            None if Path::new(DEFAULT_FILE).exists() => Self::read(Path::new(DEFAULT_FILE)),
            None => Ok(Self::default()),
        }
    }

    fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        toml::from_str(&text).map_err(|source| ConfigError::Parse {
            path: path.to_owned(),
            source: Box::new(source),
        })
    }
}
