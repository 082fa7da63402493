//! `fairlead-hub dev`: the same hub as `serve`, with everything that an operator would bring made on the spot.
//!
//! A private Postgres, the master key and a certificate lie in one folder and are found again at the next start.
//! Removing the folder removes everything.

mod certificate;
mod folder;

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use anyhow::Context;
use clap::Args;
use private_postgres::{Durability, Installation, PrivatePostgres};
use secrecy::SecretString;
use url::Url;

use crate::{
    Hub,
    clock::{Clock, SystemClock},
    config::{self, Config, LogFormat},
    output,
    serve::{self, Serving, Signals},
};

use folder::Folder;

const DATABASE: &str = "fairlead";

#[derive(Args, Debug)]
pub struct DevFlags {
    /// Folder for the database, the keys and the certificate [default: fairlead-hub in your data folder]
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// Name or IP address by which the hub is reached; the first one is its public name
    #[arg(long = "host", value_name = "NAME", default_value = "localhost")]
    hosts: Vec<String>,
    /// Where HTTPS is served
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8443")]
    listen: SocketAddr,
    /// Where carriers arrive
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8444")]
    relay_listen: SocketAddr,
    /// Folder of `initdb`, `postgres` and `psql`, when they are not found by themselves
    #[arg(long, value_name = "FOLDER")]
    postgres: Option<PathBuf>,
    /// PEM file with certificates that sign-in providers may have besides those that the system trusts
    #[arg(long, value_name = "FILE")]
    issuer_ca: Option<PathBuf>,
}

/// Runs until Ctrl-C, and leaves no process behind.
pub async fn run(flags: DevFlags) -> anyhow::Result<()> {
    let path = flags.data.clone().or_else(config::dev_folder);
    let folder = Folder::open(&path.context("no home folder: name one with --data")?)?;
    let clock = SystemClock;
    let public_url = public_url(&flags)?;
    let tls = certificate::prepare(&folder, &flags.hosts, clock.now().into())?;
    let master_key = folder.master_key()?;
    let postgres = start_postgres(&flags, &folder)?;
    let database_url = postgres.url(DATABASE);
    folder.write_operator_config(&public_url, &database_url)?;
    let config = Config {
        relay_address: config::default_relay_address(&public_url, flags.relay_listen),
        public_url,
        listen: flags.listen,
        relay_listen: flags.relay_listen,
        database_url: SecretString::from(database_url),
        master_key,
        tls,
        issuer_ca: flags.issuer_ca,
        trusted_proxies: Vec::new(),
        // A provider in the next container is what this is for.
        allow_http_issuers: true,
        log: LogFormat::Text,
    };
    let hub = Hub::assemble(config, Arc::new(clock)).await?;
    let signals = Signals::taken()?;
    let serving = Serving::start(&hub).await?;
    let setup_url = serve::setup_url_of_first_run(&hub).await?;
    output::say(&greeting(&hub, &folder, setup_url.as_deref()))?;
    let ended = serve::until_stopped(serving, signals).await;
    // Not before the hub has let go of it.
    drop(postgres);
    ended
}

fn public_url(flags: &DevFlags) -> anyhow::Result<Url> {
    let host = flags.hosts.first().context("name the hub with --host")?;
    let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
    let text = format!("https://{host}:{}", flags.listen.port());
    Url::parse(&text).with_context(|| format!("`{host}` is not a host name"))
}

fn start_postgres(flags: &DevFlags, folder: &Folder) -> anyhow::Result<PrivatePostgres> {
    let installation = match &flags.postgres {
        Some(binaries) => Installation::at(binaries)?,
        None => Installation::find()?,
    };
    let postgres = PrivatePostgres::start(installation, &folder.postgres(), Durability::Durable)?;
    postgres.ensure_database(DATABASE)?;
    Ok(postgres)
}

fn greeting(hub: &Hub, folder: &Folder, setup_url: Option<&str>) -> String {
    let console = hub.config.url("/");
    let trust = folder.authority_certificate();
    let operator_config = folder.operator_config();
    let set_up = setup_url.map_or_else(String::new, |url| {
        format!("  Set up    {url}\n            (once, within half an hour)\n")
    });
    format!(
        "\nThe Fairlead hub runs.\n\n\
         \x20 Console   {console}\n{set_up}\
         \x20 Trust     {}\n            (the certificate that browsers, laptops and agents must trust)\n\
         \x20 Operator  fairlead-hub admin --config {} …\n\
         \x20 Data      {}\n\n\
         Ctrl-C stops it.\n",
        trust.display(),
        operator_config.display(),
        folder.path().display()
    )
}
