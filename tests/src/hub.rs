//! The real hub, as `fairlead-hub dev` runs it, on the host *hub* or on another that has its address.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Stdio},
    sync::mpsc::{Receiver, channel},
    time::Duration,
};

use anyhow::{Context, ensure};
use fairlead_lab::{Host, Lab, sibling};

use crate::{
    command::say,
    patience::within,
    process::{Held, Process},
};

/// How everybody in the lab reaches the hub.
pub const URL: &str = "https://hub.fairlead.test:8443";
/// Where it listens: the console, the API, links and carriers at the first one, the raw relay at the other.
pub const PORTS: [u16; 2] = [8443, 8444];
/// Postgres is made, started and migrated in this time.
const READY_WITHIN: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub struct Hub {
    host: Host,
    folder: PathBuf,
    child: Child,
    lines_rx: Receiver<String>,
}

impl Hub {
    /// Starts the hub with `folder` as its data directory and waits until it says that it is ready.
    pub fn start(lab: &Lab, folder: &Path) -> anyhow::Result<Self> {
        Self::start_on(lab, Host::Hub, folder)
    }

    pub(crate) fn start_on(lab: &Lab, host: Host, folder: &Path) -> anyhow::Result<Self> {
        let mut command = lab.exec(host, sibling("fairlead-hub")?);
        command
            .args(["dev", "--host", "hub.fairlead.test"])
            .args(["--listen", "0.0.0.0:8443", "--relay-listen", "0.0.0.0:8444"])
            .arg("--data")
            .arg(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(fs::File::options().create(true).append(true).open(folder.join("hub.log"))?);
        let mut child = command.spawn().context("cannot start the hub")?;
        let lines_rx = follow(child.stdout.take().expect("piped above"));
        let mut hub = Self { host, folder: folder.to_owned(), child, lines_rx };
        let ready = || if hub.has_ended() { Ok(false) } else { hub.asks_ready(lab).map(|()| true) };
        let (ready, _) =
            within(READY_WITHIN, "the hub is ready", ready).with_context(|| hub.last_words())?;
        ensure!(ready, hub.last_words());
        Ok(hub)
    }

    /// Returns the setup link that the hub printed.
    pub fn setup_token(&self) -> anyhow::Result<String> {
        loop {
            let line = self
                .lines_rx
                .recv_timeout(READY_WITHIN)
                .context("the hub printed no setup link")?;
            if let Some((_, token)) = line.split_once("/setup?token=") {
                return Ok(token.split_whitespace().next().unwrap_or_default().to_owned());
            }
        }
    }

    /// Returns the certificate that laptops and agents must trust.
    pub fn ca(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    pub fn log(&self) -> PathBuf {
        self.folder.join("hub.log")
    }

    /// Returns the hub's own process.
    pub fn process(&self) -> anyhow::Result<Process> {
        Process::entered_by(&self.child)
    }

    /// Stops its database, every process of it, until what is returned is dropped.
    pub fn stops_database(&self) -> anyhow::Result<Vec<Held>> {
        let postgres = self.process()?.descendants()?;
        ensure!(!postgres.is_empty(), "the hub of this world has a Postgres of its own");
        postgres.into_iter().map(Process::hold).collect()
    }

    /// Kills the hub and starts it again on an empty database: the one it had is put aside.
    pub fn loses_database(&mut self, lab: &Lab) -> anyhow::Result<()> {
        self.kill_with_its_database()?;
        let [database, aside] = self.database();
        fs::rename(database, aside)?;
        self.start_again(lab)
    }

    /// Kills the hub and starts it again on the database that it had lost.
    pub fn finds_database(&mut self, lab: &Lab) -> anyhow::Result<()> {
        self.kill_with_its_database()?;
        let [database, aside] = self.database();
        fs::remove_dir_all(&database)?;
        fs::rename(aside, database)?;
        self.start_again(lab)
    }

    fn kill_with_its_database(&mut self) -> anyhow::Result<()> {
        self.kill()?;
        let runs = self.database()[0].join("data/postmaster.pid");
        within(READY_WITHIN, "its Postgres has ended, too", || {
            ensure!(!runs.exists(), "{} is there", runs.display());
            Ok(())
        })?;
        Ok(())
    }

    /// Returns where its database is, and where one that it lost is kept.
    fn database(&self) -> [PathBuf; 2] {
        ["postgres", "postgres-aside"].map(|name| self.folder.join(name))
    }

    /// Kills the hub with SIGKILL and returns when it is gone.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.process()?.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Starts a hub that was killed, on the same data.
    pub fn start_again(&mut self, lab: &Lab) -> anyhow::Result<()> {
        let folder = self.folder.clone();
        *self = Self::start_on(lab, self.host, &folder)?;
        Ok(())
    }

    /// Says whether the hub is no more.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_some())
    }

    /// Returns the end of what the hub logged, for whoever must understand a failure.
    #[must_use]
    pub fn last_words(&mut self) -> String {
        const LINES: usize = 30;
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        let ended = self.child.try_wait().ok().flatten();
        let ended = ended.map_or_else(|| "it runs".to_owned(), |status| status.to_string());
        format!(
            "the hub ({ended}) said:\n{}",
            lines[lines.len().saturating_sub(LINES)..].join("\n")
        )
    }

    fn asks_ready(&self, lab: &Lab) -> anyhow::Result<()> {
        let mut curl = lab.exec(self.host, "curl");
        curl.args(["--silent", "--show-error", "--fail", "--max-time", "5", "--cacert"])
            .arg(self.ca());
        say({
            curl.arg(format!("{URL}/readyz"));
            curl
        })?
        .ok()?;
        Ok(())
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        let ended = self.child.kill().and_then(|()| self.child.wait());
        ended.map(drop).unwrap_or_default();
    }
}

fn follow(stdout: ChildStdout) -> Receiver<String> {
    let (line_tx, line_rx) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if line_tx.send(line).is_err() {
                return;
            }
        }
    });
    line_rx
}
