//! The only place that knows every part of the hub.

use std::{
    fs,
    ops::Deref,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use hub_relay::Relay;
use hub_store::{Claim, Store, StoreError};
use secrecy::ExposeSecret;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    actions::{Absences, PolicyCache, RecentDenials, Turns},
    clock::Clock,
    config::Config,
    keys::{Keys, KeysError},
    links::Links,
    login::{Issuers, SeenProofs},
    seal::Sealer,
    tasks::{self, Changes, NoClaim},
};

#[derive(Debug, thiserror::Error)]
pub enum AssembleError {
    #[error("could not reach the database: is Postgres running, and is the database URL right?")]
    Unreachable(#[source] StoreError),
    #[error(transparent)]
    Claim(#[from] NoClaim),
    #[error("the database cannot be used")]
    Store(#[from] StoreError),
    #[error("the master key does not fit the database")]
    Keys(#[from] KeysError),
    #[error("could not read {path}")]
    IssuerCa { path: PathBuf, source: std::io::Error },
    #[error("requests to issuers could not be prepared")]
    Issuers(#[from] crate::login::issuers::TransportError),
}

/// Every part of one hub process.
#[derive(Debug)]
pub struct Parts {
    pub store: Store,
    pub clock: Arc<dyn Clock>,
    pub config: Arc<Config>,
    pub keys: Keys,
    pub issuers: Issuers,
    pub seen_proofs: SeenProofs,
    pub relay: Relay,
    pub links: Links,
    pub policies: Arc<PolicyCache>,
    pub denials: RecentDenials,
    pub turns: Turns,
    pub absences: Absences,
    pub changes: Arc<Changes>,
    /// What the task that keeps it will take.
    pub(crate) claim: Mutex<Option<Claim>>,
    /// Names this process in logs, in welcomes, and to a hub that wants the same database.
    pub replica: String,
    pub tasks: TaskTracker,
    pub stopping: CancellationToken,
}

/// The hub as its handlers and actions hold it. Cloning it is cheap.
#[derive(Clone, Debug)]
pub struct Hub(Arc<Parts>);

impl Deref for Hub {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl Hub {
    /// Claims the database, brings its schema up to date, and puts the parts together.
    ///
    /// In this order: the schema of a hub that serves is not changed under it.
    pub async fn assemble(config: Config, clock: Arc<dyn Clock>) -> Result<Self, AssembleError> {
        let store = Store::connect(config.database_url.expose_secret())
            .await
            .map_err(AssembleError::Unreachable)?;
        let replica = replica_name();
        let claim = tasks::claim(&store, &replica).await?;
        store.migrate().await?;
        let keys = Keys::new(store.clone(), Arc::new(Sealer::new(&config.master_key)));
        keys.check_master_key().await?;
        let issuer_ca = read_issuer_ca(&config)?;
        Ok(Self(Arc::new(Parts {
            store,
            clock,
            keys,
            issuers: Issuers::new(issuer_ca.as_deref(), config.allow_http_issuers)?,
            seen_proofs: SeenProofs::default(),
            relay: Relay::new(hub_relay::Limits::default()),
            links: Links::new(),
            policies: Arc::new(PolicyCache::default()),
            denials: RecentDenials::default(),
            turns: Turns::default(),
            absences: Absences::default(),
            changes: Arc::new(Changes::new()),
            claim: Mutex::new(Some(claim)),
            replica,
            tasks: TaskTracker::new(),
            stopping: CancellationToken::new(),
            config: Arc::new(config),
        })))
    }
}

fn read_issuer_ca(config: &Config) -> Result<Option<Vec<u8>>, AssembleError> {
    let Some(path) = &config.issuer_ca else { return Ok(None) };
    match fs::read(path) {
        Ok(pem) => Ok(Some(pem)),
        Err(source) => Err(AssembleError::IssuerCa { path: path.clone(), source }),
    }
}

/// As much of a name as Postgres keeps of what a connection calls itself, less the random digits.
const HOST_MAX: usize = 54;

/// The host's name for people, and a few random digits because two processes may share a host.
fn replica_name() -> String {
    let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    let mut host = host.filter(|name| name.is_ascii()).unwrap_or_else(|| "hub".to_owned());
    host.truncate(HOST_MAX);
    format!("{host}-{:08x}", rand::random::<u32>())
}
