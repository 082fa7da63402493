//! What can be said on the command line and in the environment.

use std::{fmt, net::SocketAddr, path::PathBuf};

use clap::Args;
use ipnet::IpNet;
use secrecy::SecretString;
use url::Url;

use super::LogFormat;

/// The flags of the commands that need the database only.
#[derive(Args, Clone)]
pub struct DatabaseFlags {
    /// Configuration file (TOML); without it /etc/fairlead/hub.toml where that exists
    #[arg(long, env = "FAIRLEAD_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Postgres, for example postgres://fairlead@db.example.com/fairlead
    #[arg(long, env = "FAIRLEAD_DATABASE_URL", hide_env_values = true, value_name = "URL")]
    pub(super) database_url: Option<SecretString>,
    /// How browsers, laptops and agents reach this hub, for example https://hub.example.com
    #[arg(long, env = "FAIRLEAD_PUBLIC_URL", value_name = "URL")]
    pub(super) public_url: Option<Url>,
}

/// The flags of `serve`.
#[derive(Args, Clone)]
pub struct ServeFlags {
    #[command(flatten)]
    pub(super) database: DatabaseFlags,
    /// Where HTTPS is served [default: every address, port 8443]
    #[arg(long, env = "FAIRLEAD_LISTEN", value_name = "ADDRESS:PORT")]
    pub(super) listen: Option<SocketAddr>,
    /// Where carriers arrive [default: every address, port 8444]
    #[arg(long, env = "FAIRLEAD_RELAY_LISTEN", value_name = "ADDRESS:PORT")]
    pub(super) relay_listen: Option<SocketAddr>,
    /// The relay as laptops and agents reach it [default: the host of the public URL, port 8444]
    #[arg(long, env = "FAIRLEAD_RELAY_ADDRESS", value_name = "HOST:PORT")]
    pub(super) relay_address: Option<String>,
    /// File with the master key (32 bytes in base64, mode 0600)
    #[arg(long, env = "FAIRLEAD_MASTER_KEY_FILE", value_name = "FILE")]
    pub(super) master_key_file: Option<PathBuf>,
    /// PEM file with the hub's certificate and those between it and its root
    #[arg(long, env = "FAIRLEAD_TLS_CERTIFICATE", value_name = "FILE")]
    pub(super) tls_certificate: Option<PathBuf>,
    /// PEM file with the key of the certificate
    #[arg(long, env = "FAIRLEAD_TLS_KEY", value_name = "FILE")]
    pub(super) tls_key: Option<PathBuf>,
    /// PEM file with certificates that sign-in providers may have besides those that the system trusts
    #[arg(long, env = "FAIRLEAD_ISSUER_CA", value_name = "FILE")]
    pub(super) issuer_ca: Option<PathBuf>,
    /// Let sign-in providers have http:// addresses on other machines, where anybody on the way can sign in as anybody
    #[arg(long, env = "FAIRLEAD_ALLOW_HTTP_ISSUERS")]
    pub(super) allow_http_issuers: bool,
    /// Networks of the proxies in front of the hub, separated by commas: what they say about where requests come from
    /// is believed
    #[arg(long, env = "FAIRLEAD_TRUSTED_PROXIES", value_name = "CIDR", value_delimiter = ',')]
    pub(super) trusted_proxies: Option<Vec<IpNet>>,
    /// How log lines look [default: text]
    #[arg(long, env = "FAIRLEAD_LOG", value_enum)]
    pub(super) log: Option<LogFormat>,
}

impl fmt::Debug for DatabaseFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatabaseFlags").field("config", &self.config).finish_non_exhaustive()
    }
}

impl fmt::Debug for ServeFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServeFlags").field("database", &self.database).finish_non_exhaustive()
    }
}
