//! What an operator brings: a database, a certificate, a master key, a configuration file. And the program, running.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::Once,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use private_postgres::TestDatabase;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStderr, Command},
    time::timeout,
};

pub(crate) const HOST: &str = "hub.fairlead.test";
/// 32 times the same byte, in base64.
pub(crate) const MASTER_KEY: &str = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";
/// Longer than anything here may take, on a machine that does other things too.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Place {
    pub(crate) folder: TempDir,
    // Last: it goes when nobody uses it any more.
    pub(crate) database: TestDatabase,
}

/// What a program that has ended said.
pub(crate) struct Said {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Said {
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert!(self.status.success(), "{}: {}", self.status, self.stderr);
        self.stdout
    }

    /// Returns the error of a program that must have failed with the one exit code for that.
    #[track_caller]
    pub(crate) fn refused(self) -> String {
        assert_eq!(self.status.code(), Some(1), "{}{}", self.stdout, self.stderr);
        assert!(self.stdout.is_empty(), "an error is no result: {}", self.stdout);
        self.stderr
    }
}

impl Place {
    pub(crate) async fn new() -> Self {
        static PROVIDER: Once = Once::new();
        PROVIDER.call_once(|| {
            rustls::crypto::aws_lc_rs::default_provider().install_default().expect("the first");
        });
        let database = tokio::task::spawn_blocking(|| TestDatabase::create().expect("Postgres"));
        let place = Self {
            folder: tempfile::tempdir().expect("made"),
            database: database.await.expect("no panic"),
        };
        place.write_secret("master.key", MASTER_KEY);
        place.certify();
        let file = format!(
            "public_url = \"https://{HOST}\"\nlisten = \"127.0.0.1:0\"\nrelay_listen = \"127.0.0.1:0\"\n\
             database_url = \"{}\"\nmaster_key_file = \"{}\"\nlog = \"json\"\n\n\
             [tls]\ncertificate = \"{}\"\nkey = \"{}\"\n",
            place.database.url(),
            place.path("master.key").display(),
            place.path("tls.crt").display(),
            place.path("tls.key").display(),
        );
        place.write_secret("hub.toml", &file);
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write_secret(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::write(&path, text).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("set");
    }

    /// Makes a certificate of a new authority, which whoever connects must trust from then on.
    pub(crate) fn certify(&self) {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("made");
        let authority = CertifiedIssuer::self_signed(params, key).expect("signed");
        let key = KeyPair::generate().expect("made");
        let leaf = CertificateParams::new([HOST.to_owned()])
            .and_then(|params| params.signed_by(&key, &authority))
            .expect("signed");
        self.write_secret("ca.crt", &authority.pem());
        self.write_secret("tls.crt", &leaf.pem());
        self.write_secret("tls.key", &key.serialize_pem());
    }

    /// A client that trusts the authority of this moment and finds the hub at `address`.
    pub(crate) fn client(&self, address: SocketAddr) -> reqwest::Client {
        let pem = fs::read(self.path("ca.crt")).expect("made");
        let authority = reqwest::Certificate::from_pem(&pem).expect("PEM");
        reqwest::Client::builder()
            .tls_certs_only([authority])
            .resolve(HOST, address)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .expect("built")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fairlead-hub"));
        command
            .args(arguments)
            .env_clear()
            .env("FAIRLEAD_CONFIG", self.path("hub.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Runs the program to its end.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Said {
        let output = timeout(PATIENCE, self.command(arguments).output()).await;
        let output = output.expect("it ends").expect("it starts");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        Said { status: output.status, stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// Starts `serve`, which is to stay.
    pub(crate) fn serve(&self, arguments: &[&str]) -> Running {
        let arguments: Vec<_> = ["serve"].iter().chain(arguments).copied().collect();
        let mut child = self.command(&arguments).spawn().expect("it starts");
        let lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        Running { child, lines, said: Vec::new() }
    }

    /// Starts `serve` and waits until it does.
    pub(crate) async fn serving(&self) -> (Running, SocketAddr) {
        let mut running = self.serve(&[]);
        let address = running.is_serving().await;
        (running, address)
    }

    /// Returns the process of Postgres that holds the claim on the database, if there is one.
    pub(crate) fn claimant(&self) -> Option<Pid> {
        let claimants = self.database.rows(
            "select pid from pg_locks where locktype = 'advisory' and objsubid = 2 and granted
             and database = (select oid from pg_database where datname = current_database())",
        );
        let claimants = claimants.expect("Postgres answers");
        claimants.first().map(|pid| Pid::from_raw(pid.parse().expect("a number")))
    }

    /// Changes the database behind the hub's back.
    pub(crate) fn sql(&self, statements: &str) {
        let file = self.path("statements.sql");
        fs::write(&file, statements).expect("written");
        self.database.run_file(Path::new(&file)).expect("run");
    }
}

/// A hub that serves.
pub(crate) struct Running {
    child: Child,
    lines: Lines<BufReader<ChildStderr>>,
    said: Vec<String>,
}

impl Running {
    pub(crate) fn id(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// Waits for a log line with these words.
    pub(crate) async fn says(&mut self, words: &str) -> serde_json::Value {
        let found = timeout(PATIENCE, async {
            while let Some(line) = self.lines.next_line().await.expect("text") {
                let found = line.contains(words);
                self.said.push(line);
                if found {
                    return true;
                }
            }
            false
        });
        let found = found.await.is_ok_and(|found| found);
        assert!(found, "it never said `{words}`: {:#?}", self.said);
        let line = self.said.last().expect("the one that was found");
        serde_json::from_str(line).expect("a log line is an object")
    }

    pub(crate) async fn is_serving(&mut self) -> SocketAddr {
        let line = self.says("Serving https://").await;
        line["fields"]["listen"].as_str().expect("an address").parse().expect("an address")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.id()).expect("a pid"));
        kill(pid, signal).expect("it runs");
    }

    pub(crate) async fn ends(self) -> ExitStatus {
        self.ends_saying().await.0
    }

    /// Waits for the end and returns what was said until then, too.
    pub(crate) async fn ends_saying(mut self) -> (ExitStatus, String) {
        // Its log is read to the end, so that it never waits for a reader.
        let ended = timeout(PATIENCE, async {
            while let Ok(Some(line)) = self.lines.next_line().await {
                self.said.push(line);
            }
            self.child.wait().await
        });
        let status = ended.await.expect("it ends").expect("its status");
        (status, self.said.join("\n"))
    }
}
