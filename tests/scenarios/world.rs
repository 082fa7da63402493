//! A hub with its database and its identity provider, for one test.

use std::{
    net::{SocketAddr, TcpListener},
    sync::{
        Arc, Once,
        atomic::{AtomicI64, AtomicU16, Ordering},
    },
    time::Duration,
};

use fairlead_hub::{
    Hub,
    clock::{Clock, SystemClock},
    config::{Config, LogFormat, TlsFiles},
    seal::MasterKey,
    serve::{self, Serving},
};
use jiff::{SignedDuration, Timestamp};
use private_postgres::TestDatabase;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use secrecy::SecretString;
use serde_json::{Value, json};
use tempfile::TempDir;
use url::Url;

use crate::{browser::Browser, issuer::Issuer};

/// The clock on the wall, put forward or back by the test.
#[derive(Debug, Default)]
pub(crate) struct WrongClock(AtomicI64);

impl WrongClock {
    pub(crate) fn set_ahead_s(&self, seconds: i64) {
        self.0.store(seconds, Ordering::SeqCst);
    }
}

impl Clock for WrongClock {
    fn now(&self) -> Timestamp {
        Timestamp::now() + SignedDuration::from_secs(self.0.load(Ordering::SeqCst))
    }

    fn since_boot(&self) -> Duration {
        SystemClock.since_boot()
    }
}

/// Dropping it leaves nothing; [`World::end`] also waits for the hub.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) serving: Serving,
    pub(crate) hub: Hub,
    pub(crate) clock: Arc<WrongClock>,
    pub(crate) issuer: Issuer,
    /// PEM: what whoever reaches the hub must trust.
    pub(crate) authority: String,
    _folder: TempDir,
    // Last: it goes when nobody uses it any more.
    database: TestDatabase,
}

impl World {
    /// A hub that nobody has set up.
    pub(crate) async fn without_organization() -> Self {
        install_provider_once();
        let database = TestDatabase::create().expect("Postgres is installed");
        let folder = tempfile::tempdir().expect("made");
        let (tls, authority) = certificate(&folder);
        let port = free_port();
        let public_url = Url::parse(&format!("https://127.0.0.1:{port}")).expect("a URL");
        let issuer = Issuer::start(&format!("https://127.0.0.1:{port}/login/callback"));
        let loopback = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let config = Config {
            public_url,
            listen: loopback(port),
            relay_listen: loopback(0),
            relay_address: "127.0.0.1:1".to_owned(),
            database_url: SecretString::from(database.url()),
            master_key: MasterKey::new([7; 32]),
            tls,
            issuer_ca: None,
            trusted_proxies: Vec::new(),
            allow_http_issuers: false,
            log: LogFormat::Text,
        };
        let clock = Arc::new(WrongClock::default());
        let hub = Hub::assemble(config, Arc::clone(&clock) as Arc<dyn Clock>)
            .await
            .expect("the parts fit");
        let serving = Serving::start(&hub).await.expect("the port is free");
        Self { serving, hub, clock, issuer, authority, _folder: folder, database }
    }

    /// The organization `acme`: olga owns it, developers develop, viewers view.
    pub(crate) async fn new() -> Self {
        let world = Self::without_organization().await;
        let token = world.setup_token().await;
        let founded = world.browser().post("/api/v1/setup", &world.setup(&token)).await;
        assert_eq!(founded.status, 201, "{}", founded.body);
        world
    }

    /// Returns the token of a fresh setup link.
    pub(crate) async fn setup_token(&self) -> String {
        let url = serve::setup_url_of_first_run(&self.hub).await.expect("Postgres answers");
        let url = url.expect("there is no organization yet");
        url.split_once("token=").expect("the link has a token").1.to_owned()
    }

    /// Returns what the console sends to found `acme`.
    pub(crate) fn setup(&self, token: &str) -> Value {
        json!({
            "token": token,
            "organization": { "slug": "acme", "name": "Acme" },
            "owner_email": "Olga@example.test",
            "oidc": {
                "issuer": self.issuer.url(),
                "client_id": "fairlead",
                "client_secret": "lab-secret",
                "groups_claim": "groups",
                "scopes": ["email", "profile", "groups"],
                "email_domains": [],
            },
            "group_roles": [
                { "group": "developers", "role": "developer" },
                { "group": "viewers", "role": "viewer" },
            ],
        })
    }

    /// Returns everything that the tables hold, as text; bytes in hexadecimal.
    pub(crate) fn dump(&self) -> String {
        self.rows(
            "set xmlbinary = hex;
             select query_to_xml(format('select * from %I', tablename), true, false, '')
             from pg_tables where schemaname = 'public'",
        )
        .join("\n")
    }

    /// Returns what a query gives, one line for each row.
    pub(crate) fn rows(&self, query: &str) -> Vec<String> {
        self.database.rows(query).expect("Postgres answers")
    }

    pub(crate) fn url(&self) -> String {
        self.hub.config.origin()
    }

    /// A browser that nobody has used.
    pub(crate) fn browser(&self) -> Browser {
        Browser::new(&self.url(), &self.authority)
    }

    /// A browser in which `person` is signed in.
    pub(crate) async fn signed_in(&self, person: &str) -> Browser {
        let mut browser = self.browser();
        let page = browser.sign_in(person).await;
        assert_eq!(page.url.path(), "/", "{}", page.body);
        browser
    }

    pub(crate) async fn end(self) {
        self.serving.stop().await;
    }
}

/// Returns a port that is free, and stays so: the kernel gives none of these to who asks for any, and here each is given
/// once.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(20_000);
    let mut ports = std::iter::repeat_with(|| NEXT.fetch_add(1, Ordering::SeqCst));
    ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("it goes on for ever")
}

fn certificate(folder: &TempDir) -> (TlsFiles, String) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("made");
    let authority = CertifiedIssuer::self_signed(params, key).expect("signed");
    let key = KeyPair::generate().expect("made");
    let leaf = CertificateParams::new(["127.0.0.1".to_owned()])
        .and_then(|params| params.signed_by(&key, &authority))
        .expect("signed");
    let files =
        TlsFiles { certificate: folder.path().join("hub.pem"), key: folder.path().join("hub.key") };
    std::fs::write(&files.certificate, leaf.pem()).expect("written");
    std::fs::write(&files.key, key.serialize_pem()).expect("written");
    (files, authority.pem())
}

fn install_provider_once() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        rustls::crypto::aws_lc_rs::default_provider()
            .install_default()
            .expect("nothing has installed a provider before");
    });
}
