//! The identity provider of the lab: npm's `oidc-provider`, run on the hub host.

use crate::{Host, Lab, Step, config, programs, run};
use anyhow::{Context, bail};
use serde::Serialize;
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

const PATIENCE: Duration = Duration::from_secs(30);

/// How the provider presents itself and whom it knows.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IssuerOptions {
    /// The name of the provider, as the hub is told it.
    pub issuer: String,
    /// Where it listens on its host.
    pub port: u16,
    /// Where a browser may be sent back to.
    pub redirect_uris: Vec<String>,
    /// Where a sign-out is told to the hub.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backchannel_logout_uri: Option<String>,
    /// More people, or other groups of ada (developers), grace (viewers) and olga (owners).
    pub groups: BTreeMap<String, Vec<String>>,
}

impl Default for IssuerOptions {
    fn default() -> Self {
        Self {
            issuer: "http://idp.fairlead.test:9090".to_owned(),
            port: 9090,
            redirect_uris: vec!["https://hub.fairlead.test:8443/login/callback".to_owned()],
            backchannel_logout_uri: None,
            groups: BTreeMap::new(),
        }
    }
}

/// A running provider; it ends when this is dropped.
#[derive(Debug)]
pub struct Issuer {
    process: Child,
}

impl Issuer {
    /// Starts the provider on a host that has the hub's address, and returns when it answers.
    pub(crate) fn start(lab: &Lab, host: Host, options: &IssuerOptions) -> anyhow::Result<Self> {
        let program = issuer_program()?;
        let log = lab.logs().join("issuer.log");
        let output = File::create(&log)?;
        let process = lab
            .exec(host, "node")
            .arg(program)
            .arg(serde_json::to_string(options)?)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .context("cannot start the identity provider: is Node.js installed?")?;
        let mut issuer = Self { process };
        let address = SocketAddr::from((Host::Hub.address(), options.port));
        let answers = lab.on(host, move || wait_for(address))?;
        while !answers.is_finished() {
            if let Some(status) = issuer.process.try_wait()? {
                let said = fs::read_to_string(&log).unwrap_or_default();
                bail!("the identity provider ended ({status}): {}", said.trim());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        answers.join().expect("asking does not panic")?;
        Ok(issuer)
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        // It holds nothing that would be worth an orderly end.
        let _gone_already = self.process.kill();
        let _reaped = self.process.wait();
    }
}

/// Returns the program with its modules beside it, installed once per machine and version of our sources.
pub fn issuer_program() -> anyhow::Result<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("issuer");
    let names = ["package.json", "package-lock.json", "issuer.mjs"];
    let files = names.map(|name| fs::read(source.join(name)));
    let files = files.into_iter().collect::<Result<Vec<_>, _>>()?;
    let folder = config::cache()?.join("lab").join(programs::hash(files));
    let program = folder.join("issuer.mjs");
    if !program.exists() {
        Step::run("the identity provider is installed", || install(&source, &names, &folder))?;
    }
    Ok(program)
}

/// The program itself comes last: where it is, everything is.
fn install(source: &Path, names: &[&str; 3], folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder)?;
    for name in &names[..2] {
        fs::copy(source.join(name), folder.join(name))?;
    }
    run::output(Command::new("npm").current_dir(folder).args([
        "ci",
        "--silent",
        "--no-audit",
        "--no-fund",
    ]))
    .context("npm does not install the identity provider")?;
    fs::copy(source.join(names[2]), folder.join(names[2]))?;
    Ok(())
}

fn wait_for(address: SocketAddr) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !describes_itself(address) {
        if Instant::now() > deadline {
            bail!("the identity provider does not answer at {address}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn describes_itself(address: SocketAddr) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut connection = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
        connection.set_read_timeout(Some(Duration::from_secs(5)))?;
        connection
            .write_all(b"GET /.well-known/openid-configuration HTTP/1.0\r\nhost: idp\r\n\r\n")?;
        let mut status = [0; 12];
        connection.read_exact(&mut status)?;
        Ok(status.ends_with(b"200"))
    };
    ask().unwrap_or(false)
}
