//! Serving: one TLS port for people, links and carriers, one raw port for carriers that reach it, and an orderly end.

mod acceptor;
mod port_holder;

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use axum_server::{Handle, tls_rustls::RustlsConfig};
use fairlead_model::{Token, TokenKind};
use hub_store::{LinkPurpose, StoreError};
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
    task::JoinHandle,
};

use crate::{
    Hub,
    clock::SystemClock,
    config::{Config, TlsFiles},
    http, tasks,
};

/// Requests that are being answered may take this long after the hub was asked to stop.
const REQUESTS_GRACE: Duration = Duration::from_secs(5);
/// Carriers end with the hub; laptops and agents dial again elsewhere, or here when it is back.
const CARRIERS_GRACE: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("could not listen on {address}: {hint}")]
    Listen { address: SocketAddr, hint: String, source: io::Error },
    #[error("could not use {certificate} and {key} for TLS: both must be PEM, and belong together")]
    Tls { certificate: PathBuf, key: PathBuf, source: io::Error },
    #[error("the tasks of the hub could not be started")]
    Tasks(#[from] StoreError),
}

/// A hub that serves. Dropping it does not stop it; [`Serving::stop`] does.
#[derive(Debug)]
pub struct Serving {
    hub: Hub,
    /// Where HTTPS is served, with the port that the system chose when none was asked for.
    pub listen: SocketAddr,
    pub relay_listen: SocketAddr,
    tls: RustlsConfig,
    handle: Handle<SocketAddr>,
    https: JoinHandle<io::Result<()>>,
    claim: tasks::Kept,
    relay: JoinHandle<()>,
}

impl Serving {
    /// Opens both ports and starts the tasks.
    pub async fn start(hub: &Hub) -> Result<Self, ServeError> {
        let tls = load_tls(&hub.config.tls).await?;
        let https_listener = listen(hub.config.listen)?;
        let relay_listener = listen(hub.config.relay_listen)?;
        let address = |listener: &std::net::TcpListener, asked| {
            listener.local_addr().map_err(|source| not_listening(asked, source))
        };
        let listen = address(&https_listener, hub.config.listen)?;
        let relay_listen = address(&relay_listener, hub.config.relay_listen)?;
        let relay_listener = TcpListener::from_std(relay_listener)
            .map_err(|source| not_listening(relay_listen, source))?;
        let claim = tasks::start(hub).await?;
        let handle = Handle::new();
        let service = http::router(hub).into_make_service_with_connect_info::<SocketAddr>();
        let server = axum_server::from_tcp_rustls(https_listener, tls.clone())
            .map_err(|source| not_listening(listen, source))?
            .map(|tls| tls.acceptor(acceptor::Tuned))
            .handle(handle.clone());
        let https = tokio::spawn(server.serve(service));
        let relay = {
            let relay = hub.relay.clone();
            tokio::spawn(async move {
                if let Err(error) = relay.serve(relay_listener).await {
                    tracing::error!(%error, "The relay takes no more carriers");
                }
            })
        };
        tracing::info!(%listen, relay = %relay_listen, "Serving {}", hub.config.public_url);
        Ok(Self { hub: hub.clone(), listen, relay_listen, tls, handle, https, claim, relay })
    }

    /// Reads the certificate files again: connections that are made from now on see the new ones.
    pub async fn reload_certificate(&self) {
        let TlsFiles { certificate, key } = &self.hub.config.tls;
        match self.tls.reload_from_pem_file(certificate, key).await {
            Ok(()) => tracing::info!("Certificate read again"),
            Err(error) => {
                tracing::error!(%error, "The new certificate cannot be used; the old one stays");
            }
        }
    }

    /// Ends when this hub cannot go on: it serves nobody any more, or another one has its database.
    async fn failed(&mut self) -> anyhow::Error {
        tokio::select! {
            ended = &mut self.https => {
                let error = match ended {
                    Ok(Err(error)) => error,
                    Ok(Ok(())) => io::Error::other("it ended without being asked to"),
                    Err(panic) => io::Error::other(panic),
                };
                anyhow::Error::new(error).context("HTTPS has ended")
            }
            lost = self.claim.lost() => lost,
        }
    }

    /// Takes no new connections, finishes requests, ends links, carriers and tasks.
    pub async fn stop(self) {
        self.hub.stopping.cancel();
        self.handle.graceful_shutdown(Some(REQUESTS_GRACE));
        self.hub.relay.drain(CARRIERS_GRACE).await;
        self.relay.abort();
        if let Ok(Err(error)) = self.https.await {
            tracing::warn!(%error, "HTTPS did not end in order");
        }
        self.hub.tasks.close();
        self.hub.tasks.wait().await;
        self.hub.store.close().await;
        // The next hub takes our links for lost and may change the schema: it begins when nothing here works any more.
        self.claim.let_go().await;
    }
}

/// Serves until a signal says stop; SIGHUP reads the certificate again.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let hub = Hub::assemble(config, Arc::new(SystemClock)).await?;
    let signals = Signals::taken()?;
    let serving = Serving::start(&hub).await?;
    if let Some(url) = setup_url_of_first_run(&hub).await? {
        tracing::info!("Set up this hub within half an hour: {url}");
    }
    until_stopped(serving, signals).await
}

/// The signals that a hub hears. One that nobody has taken ends the process at once, so they are taken before anybody is
/// served.
#[derive(Debug)]
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    pub(crate) fn taken() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Waits until somebody asks the hub to stop.
    async fn stop(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Waits for the end, whoever decides it.
pub(crate) async fn until_stopped(
    mut serving: Serving,
    mut signals: Signals,
) -> anyhow::Result<()> {
    loop {
        tokio::select! {
            _ = signals.interrupt.recv() => break,
            _ = signals.terminate.recv() => break,
            _ = signals.hang_up.recv() => serving.reload_certificate().await,
            // At once: what ends links in order would tell the database of the other hub.
            error = serving.failed() => return Err(error),
        }
    }
    tracing::info!("Stopping");
    tokio::select! {
        () = serving.stop() => {}
        // Whoever asks twice does not want to wait.
        () = signals.stop() => {}
    }
    Ok(())
}

/// Makes a setup link when there is no organization yet.
pub async fn setup_url_of_first_run(hub: &Hub) -> Result<Option<String>, StoreError> {
    let store = hub.store.unscoped("start: is this the first run?");
    if !store.organizations().await?.is_empty() {
        return Ok(None);
    }
    let token = Token::new(TokenKind::Setup, rand::random());
    store.keep_setup_link(&token.hash(), LinkPurpose::Setup, hub.clock.now()).await?;
    Ok(Some(hub.config.url(&format!("/setup?token={}", token.expose()))))
}

async fn load_tls(files: &TlsFiles) -> Result<RustlsConfig, ServeError> {
    RustlsConfig::from_pem_file(&files.certificate, &files.key).await.map_err(|source| {
        ServeError::Tls { certificate: files.certificate.clone(), key: files.key.clone(), source }
    })
}

fn listen(address: SocketAddr) -> Result<std::net::TcpListener, ServeError> {
    let bound = std::net::TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    bound.map_err(|source| not_listening(address, source))
}

fn not_listening(address: SocketAddr, source: io::Error) -> ServeError {
    let hint = match source.kind() {
        io::ErrorKind::AddrInUse => {
            let holder = port_holder::holder_of(address.port());
            let holder = holder.unwrap_or_else(|| "another program".to_owned());
            format!("{holder} has this port; stop it, or choose another one")
        }
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need CAP_NET_BIND_SERVICE; choose a higher one".to_owned()
        }
        io::ErrorKind::AddrNotAvailable => "this machine does not have that address".to_owned(),
        _ => source.to_string(),
    };
    ServeError::Listen { address, hint, source }
}
