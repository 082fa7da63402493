//! The one typed configuration. A file, the flags and the environment are read here and nowhere else.
//!
//! A flag (or its environment variable, which `--help` names) wins over the file. Each error says what to write.

mod file;
mod flags;

use std::{
    env, fs, io,
    net::{Ipv6Addr, SocketAddr},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use clap::ValueEnum;
use ipnet::IpNet;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use url::Url;

use self::file::File;
pub use self::flags::{DatabaseFlags, ServeFlags};

use crate::seal::{InvalidMasterKey, MasterKey};

const DEFAULT_PORT: u16 = 8443;
const DEFAULT_RELAY_PORT: u16 = 8444;

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("could not read {path}")]
    Read { path: PathBuf, source: io::Error },
    #[error("{path} is not a valid configuration: {source}")]
    Parse { path: PathBuf, source: Box<toml::de::Error> },
    #[error("`{field}` is missing: {remedy}")]
    Missing { field: &'static str, remedy: &'static str },
    #[error(
        "`public_url` must look like https://hub.example.com (no path, no query): {text} does not"
    )]
    PublicUrl { text: Url },
    #[error(
        "{path} can be read by other users of this machine: the master key must be its owner's alone \
         (chmod 600 {path})"
    )]
    ExposedKey { path: PathBuf },
    #[error(transparent)]
    MasterKey(#[from] InvalidMasterKey),
    #[error("give the master key by file or by environment, not by both")]
    TwoMasterKeys,
}

/// Everything `serve` needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// How browsers, laptops and agents reach this hub; its host name is part of what links sign.
    pub public_url: Url,
    /// Where HTTPS is served: the console, REST and the links.
    pub listen: SocketAddr,
    /// Where carriers arrive.
    pub relay_listen: SocketAddr,
    /// `host:port` of the relay as laptops and agents reach it.
    pub relay_address: String,
    pub database_url: SecretString,
    pub master_key: MasterKey,
    pub tls: TlsFiles,
    /// Certificates that issuers may have besides those that the system trusts.
    pub issuer_ca: Option<PathBuf>,
    /// Proxies whose `X-Forwarded-For` says where a request comes from; nobody else's does.
    pub trusted_proxies: Vec<IpNet>,
    /// Whether issuers on other machines may be reached without TLS.
    pub allow_http_issuers: bool,
    pub log: LogFormat,
}

impl Config {
    /// Returns an absolute URL of this hub.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.public_url.as_str().trim_end_matches('/'))
    }

    /// Returns the origin that browsers send with writes from our own pages.
    #[must_use]
    pub fn origin(&self) -> String {
        self.public_url.origin().ascii_serialization()
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// PEM: the certificate, then those between it and its root.
    pub certificate: PathBuf,
    /// PEM: the private key.
    pub key: PathBuf,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One object per line, for collectors.
    Json,
}

/// What `migrate` and `admin` need to know.
#[derive(Clone, Debug)]
pub struct DatabaseConfig {
    pub database_url: SecretString,
    public_url: Option<Url>,
}

impl DatabaseConfig {
    pub fn load(flags: DatabaseFlags) -> Result<Self, ConfigError> {
        let file = File::find(flags.config.as_deref())?;
        Ok(Self {
            database_url: flags.database_url.or(file.database_url).ok_or(NO_DATABASE)?,
            public_url: flags.public_url.or(file.public_url),
        })
    }

    /// Returns the public URL, for the commands that print links.
    pub fn public_url(&self) -> Result<Url, ConfigError> {
        checked_public_url(self.public_url.clone().ok_or(NO_PUBLIC_URL)?)
    }
}

impl Config {
    #[expect(clippy::disallowed_methods, reason = "this is the file that reads the environment")]
    pub fn load(flags: ServeFlags) -> Result<Self, ConfigError> {
        // No flag: whoever lists the processes of a machine reads their arguments.
        let master_key = env::var_os("FAIRLEAD_MASTER_KEY").and_then(|key| key.into_string().ok());
        let master_key = master_key.filter(|key| !key.is_empty()).map(SecretString::from);
        Self::of(flags, master_key.as_ref())
    }

    fn of(flags: ServeFlags, key: Option<&SecretString>) -> Result<Self, ConfigError> {
        let file = File::find(flags.database.config.as_deref())?;
        let everywhere = |port| SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
        let public_url = flags.database.public_url.or(file.public_url).ok_or(NO_PUBLIC_URL)?;
        let public_url = checked_public_url(public_url)?;
        let relay_listen = flags
            .relay_listen
            .or(file.relay_listen)
            .unwrap_or_else(|| everywhere(DEFAULT_RELAY_PORT));
        let tls = match (flags.tls_certificate, flags.tls_key) {
            (Some(certificate), Some(key)) => Some(TlsFiles { certificate, key }),
            (None, None) => file.tls,
            _ => None,
        };
        Ok(Self {
            listen: flags.listen.or(file.listen).unwrap_or_else(|| everywhere(DEFAULT_PORT)),
            relay_listen,
            relay_address: flags
                .relay_address
                .or(file.relay_address)
                .unwrap_or_else(|| default_relay_address(&public_url, relay_listen)),
            database_url: flags.database.database_url.or(file.database_url).ok_or(NO_DATABASE)?,
            master_key: master_key(key, flags.master_key_file.or(file.master_key_file).as_deref())?,
            tls: tls.ok_or(NO_TLS)?,
            issuer_ca: flags.issuer_ca.or(file.issuer_ca),
            trusted_proxies: flags.trusted_proxies.or(file.trusted_proxies).unwrap_or_default(),
            allow_http_issuers: flags.allow_http_issuers || file.allow_http_issuers,
            log: flags.log.or(file.log).unwrap_or_default(),
            public_url,
        })
    }
}

const NO_DATABASE: ConfigError = ConfigError::Missing {
    field: "database_url",
    remedy: "say where Postgres is with --database-url or FAIRLEAD_DATABASE_URL, for example \
             postgres://fairlead@db.example.com/fairlead (to try Fairlead without one: fairlead-hub dev)",
};
const NO_PUBLIC_URL: ConfigError = ConfigError::Missing {
    field: "public_url",
    remedy: "say how browsers and agents reach this hub with --public-url or FAIRLEAD_PUBLIC_URL, for example \
             https://hub.example.com",
};
const NO_TLS: ConfigError = ConfigError::Missing {
    field: "tls",
    remedy: "name the PEM files of certificate and key, both, with --tls-certificate and --tls-key",
};
const NO_MASTER_KEY: ConfigError = ConfigError::Missing {
    field: "master_key_file",
    remedy: "make a key once (openssl rand -base64 32 > master.key; chmod 600 master.key), keep a copy in a safe \
             place, and name the file with --master-key-file, or put the key into FAIRLEAD_MASTER_KEY",
};

fn checked_public_url(url: Url) -> Result<Url, ConfigError> {
    let plain = url.scheme() == "https"
        && url.host().is_some()
        && url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty();
    plain.then_some(()).ok_or_else(|| ConfigError::PublicUrl { text: url.clone() })?;
    Ok(url)
}

/// Returns the relay's address as it is when nothing stands between the hub and its peers.
#[must_use]
pub fn default_relay_address(public_url: &Url, relay_listen: SocketAddr) -> String {
    let host = public_url.host_str().expect("a checked public URL has a host");
    format!("{host}:{}", relay_listen.port())
}

fn master_key(text: Option<&SecretString>, file: Option<&Path>) -> Result<MasterKey, ConfigError> {
    match (text, file) {
        (Some(_), Some(_)) => Err(ConfigError::TwoMasterKeys),
        (Some(text), None) => Ok(MasterKey::from_base64(text.expose_secret())?),
        (None, Some(path)) => read_master_key(path),
        (None, None) => Err(NO_MASTER_KEY),
    }
}

/// Reads the master key from a file that nobody else can read.
pub fn read_master_key(path: &Path) -> Result<MasterKey, ConfigError> {
    let failed = |source| ConfigError::Read { path: path.to_owned(), source };
    let mode = fs::metadata(path).map_err(failed)?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(ConfigError::ExposedKey { path: path.to_owned() });
    }
    let text = SecretString::from(fs::read_to_string(path).map_err(failed)?);
    Ok(MasterKey::from_base64(text.expose_secret())?)
}

/// Returns where `dev` keeps its data: the user's data folder, or /var/lib for root, whose home nobody else can enter.
#[expect(clippy::disallowed_methods, reason = "this is the file that reads the environment")]
pub(crate) fn dev_folder() -> Option<PathBuf> {
    if nix::unistd::Uid::effective().is_root() {
        return Some(PathBuf::from("/var/lib/fairlead-hub"));
    }
    let data = env::var_os("XDG_DATA_HOME").filter(|path| !path.is_empty()).map(PathBuf::from);
    let data = data.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".local/share")))?;
    Some(data.join("fairlead-hub"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(clap::Parser)]
    struct Command {
        #[command(flatten)]
        flags: ServeFlags,
    }

    fn load(arguments: &[&str]) -> Result<Config, ConfigError> {
        load_with(arguments, Some(KEY))
    }

    fn load_with(arguments: &[&str], key: Option<&str>) -> Result<Config, ConfigError> {
        use clap::Parser;
        let arguments = ["hub"].iter().chain(arguments);
        let flags = Command::try_parse_from(arguments).expect("the flags exist").flags;
        Config::of(flags, key.map(SecretString::from).as_ref())
    }

    const KEY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

    const COMPLETE: [&str; 8] = [
        "--database-url",
        "postgres://db/fairlead",
        "--public-url",
        "https://hub.example.com",
        "--tls-certificate",
        "cert.pem",
        "--tls-key",
        "key.pem",
    ];

    #[test]
    fn the_relay_is_beside_the_hub_unless_it_is_said_otherwise() {
        let config = load(&COMPLETE).expect("complete");
        assert_eq!(config.relay_address, "hub.example.com:8444");
        let flags = [&COMPLETE[..], &["--relay-address", "relay.example.com:9"]].concat();
        assert_eq!(load(&flags).expect("complete").relay_address, "relay.example.com:9");
    }

    #[test]
    fn whatever_is_missing_is_named_with_what_to_write() {
        for (at, field) in [(0, "database_url"), (2, "public_url"), (4, "tls")] {
            let mut flags = COMPLETE.to_vec();
            flags.drain(at..at + 2);
            let error = load(&flags).expect_err(field).to_string();
            assert!(error.contains(field) && error.contains("--"), "{error}");
        }
        let error = load_with(&COMPLETE, None).expect_err("no key").to_string();
        assert!(error.contains("FAIRLEAD_MASTER_KEY"), "{error}");
    }

    #[test]
    fn the_master_key_is_no_argument() {
        use clap::Parser;
        let arguments = ["hub", "--master-key", KEY].into_iter().chain(COMPLETE);
        assert!(Command::try_parse_from(arguments).is_err());
    }

    #[test]
    fn issuers_without_tls_must_be_asked_for() {
        assert!(!load(&COMPLETE).expect("complete").allow_http_issuers);
        let flags = [&COMPLETE[..], &["--allow-http-issuers"]].concat();
        assert!(load(&flags).expect("complete").allow_http_issuers);
    }

    #[test]
    fn a_public_url_with_a_path_or_without_tls_is_refused() {
        for url in ["http://hub.example.com", "https://hub.example.com/fairlead"] {
            let mut flags = COMPLETE.to_vec();
            flags[3] = url;
            assert!(matches!(load(&flags), Err(ConfigError::PublicUrl { .. })), "{url}");
        }
    }

    #[test]
    fn proxies_are_trusted_when_they_are_named() {
        assert!(load(&COMPLETE).expect("complete").trusted_proxies.is_empty());
        let flags = [&COMPLETE[..], &["--trusted-proxies", "10.0.0.0/8,fd00::/8"]].concat();
        assert_eq!(load(&flags).expect("complete").trusted_proxies.len(), 2);
    }

    #[test]
    fn neither_debug_nor_errors_show_the_secrets() {
        let shown = format!("{:?}", load(&COMPLETE).expect("complete"));
        assert!(!shown.contains("AAAA") && !shown.contains("postgres://"), "{shown}");
    }

    #[test]
    fn a_master_key_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().expect("made");
        let path = folder.path().join("master.key");
        fs::write(&path, KEY).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("set");
        assert!(matches!(read_master_key(&path), Err(ConfigError::ExposedKey { .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("set");
        assert!(read_master_key(&path).is_ok());
    }
}
