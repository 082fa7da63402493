//! One hub, one database, and organizations in it.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use fairlead_hub::{
    Hub,
    clock::{Clock, SystemClock},
    config::{Config, LogFormat, TlsFiles},
    http, keys,
    seal::MasterKey,
    tasks,
};
use fairlead_model::OrgId;
use hub_policy::Role;
use hub_store::{Founding, LinkPurpose, OidcConnection, Organization};
use jiff::{SignedDuration, Timestamp};
use private_postgres::TestDatabase;
use tokio::{net::TcpListener, time};
use uuid::Uuid;

/// The host name that peers sign; nothing resolves it here.
pub(crate) const HOST: &str = "hub.fairlead.test";
/// How long anything that must happen may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// The clocks of this machine, ahead by what a test says.
#[derive(Debug, Default)]
pub(crate) struct TestClock {
    passed_s: AtomicU64,
    set_ahead_s: AtomicI64,
}

impl TestClock {
    /// Lets time pass.
    pub(crate) fn advance(&self, by: Duration) {
        self.passed_s.fetch_add(by.as_secs(), Ordering::SeqCst);
    }

    /// Sets the clock on the wall to so many seconds ahead of what is right; no time passes.
    pub(crate) fn is_set_ahead(&self, by_s: i64) {
        self.set_ahead_s.store(by_s, Ordering::SeqCst);
    }

    fn passed(&self) -> Duration {
        Duration::from_secs(self.passed_s.load(Ordering::SeqCst))
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        let set_ahead = SignedDuration::from_secs(self.set_ahead_s.load(Ordering::SeqCst));
        Timestamp::now() + self.passed() + set_ahead
    }

    fn since_boot(&self) -> Duration {
        SystemClock.since_boot() + self.passed()
    }
}

/// An organization and the connection its members sign in by.
#[derive(Clone, Debug)]
pub(crate) struct Org {
    pub(crate) id: OrgId,
    pub(crate) connection: Uuid,
}

pub(crate) struct World {
    pub(crate) hub: Hub,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) address: SocketAddr,
    pub(crate) acme: Org,
    // Dropped last: the hub's connections go before their database.
    database: Arc<TestDatabase>,
}

impl Drop for World {
    fn drop(&mut self) {
        self.hub.stopping.cancel();
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::configured(|_| {}).await
    }

    /// A hub with something else in its configuration.
    pub(crate) async fn configured(change: impl FnOnce(&mut Config)) -> Self {
        // Whoever was first has installed it.
        let _installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let database = tokio::task::spawn_blocking(|| TestDatabase::create().expect("Postgres"));
        let database = database.await.expect("no panic");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let relay = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let clock = Arc::new(TestClock::default());
        let mut config = config(&database, address, relay.local_addr().expect("bound"));
        change(&mut config);
        let hub = Hub::assemble(config, Arc::<TestClock>::clone(&clock)).await.expect("a hub");
        tasks::start(&hub).await.expect("tasks");
        let carriers = hub.relay.clone();
        hub.tasks.spawn(async move { drop(carriers.serve(relay).await) });
        let service = http::router(&hub).into_make_service_with_connect_info::<SocketAddr>();
        hub.tasks.spawn(async move { drop(axum::serve(listener, service).await) });
        let acme = found(&hub, "acme").await;
        Self { hub, clock, address, acme, database: Arc::new(database) }
    }

    /// Founds another organization.
    pub(crate) async fn organization(&self, slug: &str) -> Org {
        found(&self.hub, slug).await
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.hub.clock.now()
    }
}

fn config(database: &TestDatabase, listen: SocketAddr, relay: SocketAddr) -> Config {
    let nowhere = "/nonexistent".into();
    Config {
        public_url: format!("https://{HOST}").parse().expect("a URL"),
        listen,
        relay_listen: relay,
        relay_address: relay.to_string(),
        database_url: database.url().into(),
        master_key: MasterKey::new([7; 32]),
        tls: TlsFiles { certificate: nowhere, key: "/nonexistent".into() },
        issuer_ca: None,
        trusted_proxies: Vec::new(),
        allow_http_issuers: false,
        log: LogFormat::Text,
    }
}

async fn found(hub: &Hub, slug: &str) -> Org {
    let now = hub.clock.now();
    let id = OrgId::generate();
    let connection = Uuid::now_v7();
    let store = hub.store.unscoped("a test founds an organization");
    let link: [u8; 32] = rand::random();
    store.keep_setup_link(&link, LinkPurpose::Setup, now).await.expect("a link");
    let roles = Role::ALL.map(|role| (format!("{role}s"), role));
    let founding = Founding {
        organization: Organization {
            id,
            slug: slug.to_owned(),
            name: slug.to_owned(),
            created_at: now,
        },
        owner_email: format!("founder@{slug}.test"),
        keys: keys::make_keys(hub.keys.sealer(), id, now).expect("keys"),
        connection: OidcConnection {
            org_id: id,
            id: connection,
            issuer: "http://idp.fairlead.test".to_owned(),
            client_id: "fairlead".to_owned(),
            sealed_client_secret: vec![0],
            groups_claim: "groups".to_owned(),
            scopes: vec!["openid".to_owned()],
            email_domains: vec![format!("{slug}.test")],
            created_at: now,
        },
        group_roles: roles.into(),
    };
    store.found(&link, &founding, now).await.expect("founded");
    Org { id, connection }
}

/// Waits until `what` is there.
pub(crate) async fn eventually<T>(what: &str, look: impl AsyncFnMut() -> Option<T>) -> T {
    within(PATIENCE, what, look).await
}

/// Waits until `what` is there, for what happens in rounds of its own.
pub(crate) async fn within<T>(
    patience: Duration,
    what: &str,
    mut look: impl AsyncFnMut() -> Option<T>,
) -> T {
    let deadline = time::Instant::now() + patience;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(time::Instant::now() < deadline, "waited in vain for {what}");
        time::sleep(Duration::from_millis(20)).await;
    }
}

impl World {
    /// Changes the database behind the hub's back.
    pub(crate) fn sql(&self, statement: &'static str) {
        let folder = std::env::temp_dir().join(format!("fairlead-sql-{}", Uuid::now_v7()));
        std::fs::write(&folder, statement).expect("written");
        self.database.run_file(&folder).expect("run");
        std::fs::remove_file(&folder).expect("removed");
    }

    /// Has the database do something for as long as that takes, unless it is told to stop.
    pub(crate) fn aside(&self, statements: &'static str) -> JoinHandle<()> {
        let database = Arc::clone(&self.database);
        thread::spawn(move || drop(database.rows(statements)))
    }

    /// Asks the database behind the hub's back.
    pub(crate) fn rows(&self, statement: &str) -> Vec<String> {
        self.database.rows(statement).expect("rows")
    }
}
