//! Somebody at the laptop: signs in, runs `fairlead`, opens connections, runs a process of their own.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use fairlead_lab::Host;
use serde_json::Value;

use crate::{
    browser::Browser,
    command::{Running, Said, begin, say},
    conversation::Conversation,
    hub,
    process::Process,
    shop,
    shop::OwnProcess,
    world::{TEAMSPACE, World},
};

/// How long a person waits for what has no bound of its own.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub struct Person<'w> {
    world: &'w World,
    name: String,
    uid: u32,
}

impl<'w> Person<'w> {
    pub(crate) fn new(world: &'w World, name: impl Into<String>, uid: u32) -> Self {
        Self { world, name: name.into(), uid }
    }

    #[must_use]
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// Returns the address under which the hub knows this person.
    #[must_use]
    pub fn email(&self) -> String {
        format!("{}@example.test", self.name)
    }

    pub fn home(&self) -> PathBuf {
        self.world.lab().home(&self.name)
    }

    pub fn browser(&self) -> Browser<'w> {
        let lab = self.world.lab();
        Browser::new(lab, Host::Laptop, &self.name, self.uid, &self.home(), &self.world.hub_ca())
    }

    /// Returns a command that runs on the laptop as this person, in their home.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = self.world.lab().exec_as(Host::Laptop, self.uid, program);
        command.env("HOME", self.home()).env_remove("XDG_CONFIG_HOME").env_remove("XDG_STATE_HOME");
        command.current_dir(self.home());
        command
    }

    /// Returns where one of our programs is on the laptop.
    #[must_use]
    pub fn laptop_program(&self, name: &str) -> PathBuf {
        self.world.laptop_program(name)
    }

    /// Returns `fairlead` with these words, as this person.
    pub fn fairlead_command(&self, words: &[&str]) -> Command {
        let mut command = self.command(self.world.laptop_program("fairlead"));
        command.args(words);
        command
    }

    /// Runs `fairlead` to its end.
    pub fn fairlead(&self, words: &[&str]) -> anyhow::Result<Said> {
        say(self.fairlead_command(words))
    }

    /// Starts `fairlead` and lets it work.
    pub fn begins(&self, words: &[&str]) -> anyhow::Result<Running> {
        begin(self.fairlead_command(words))
    }

    /// Runs `fairlead`, which has to refuse with this exit code, and returns what it said.
    pub fn is_refused(&self, words: &[&str], code: i32) -> anyhow::Result<String> {
        let said = self.fairlead(words)?;
        ensure!(said.code == Some(code), "it should end with {code}: {said}");
        Ok(said.stderr)
    }

    /// Signs in unless this person is signed in already, starts the daemon and chooses the teamspace.
    pub fn gets_ready(&self) -> anyhow::Result<()> {
        if self.fairlead(&["whoami"])?.code != Some(0) {
            self.signs_in()?;
        }
        self.fairlead(&["start"])?.ok()?;
        self.fairlead(&["teamspace", "use", TEAMSPACE])?.ok()?;
        Ok(())
    }

    /// Returns the live intercept of a service as `fairlead list` shows it; none when it is over.
    pub fn intercept_of(&self, service: &str) -> anyhow::Result<Option<Value>> {
        let sessions = self.reads(&["intercept", "list"])?;
        let live = |session: &&Value| {
            session["wanted"][0] == service
                && !["ended", "refused"].contains(&session["phase"].as_str().unwrap_or_default())
        };
        Ok(sessions.as_array().context("a list")?.iter().find(live).cloned())
    }

    /// Waits until the intercept of a service is shown in a phase.
    pub fn is_shown(&self, service: &str, phase: &str) -> anyhow::Result<()> {
        crate::within(PATIENCE, &format!("{service} is shown as {phase}"), || {
            let shown = self.intercept_of(service)?.context("there is no live intercept of it")?;
            ensure!(shown["phase"] == phase, "{shown}");
            Ok(())
        })?;
        Ok(())
    }

    /// Waits until no live intercept of a service is shown.
    pub fn has_lost(&self, service: &str, patience: Duration) -> anyhow::Result<()> {
        crate::within(patience, &format!("the intercept of {service} is over"), || {
            let live = self.intercept_of(service)?;
            ensure!(live.is_none(), "{live:?}");
            Ok(())
        })?;
        Ok(())
    }

    /// Waits until this person's daemon is connected to the hub.
    pub fn is_connected(&self, patience: Duration) -> anyhow::Result<()> {
        crate::within(patience, "the daemon is connected to the hub", || {
            let status = self.reads(&["status"])?;
            ensure!(status["hub"]["state"] == "connected", "{status}");
            Ok(())
        })?;
        Ok(())
    }

    /// Runs a read verb with `-o json` and returns what it printed.
    pub fn reads(&self, words: &[&str]) -> anyhow::Result<Value> {
        self.fairlead(&[words, &["-o", "json"]].concat())?.ok()?.json()
    }

    /// Runs `fairlead login` and plays the browser that it asks for.
    pub fn signs_in(&self) -> anyhow::Result<()> {
        self.signs_in_trusting(&self.world.hub_ca())
    }

    /// Does so with these certificates in place of the hub's own authority.
    pub fn signs_in_trusting(&self, authorities: &Path) -> anyhow::Result<()> {
        let ca = authorities.to_str().context("the lab's paths are UTF-8")?;
        let mut login = self
            .fairlead_command(&["login", hub::URL, "--ca-file", ca, "--no-browser"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let url = address_shown_by(&mut login)?;
        let page = self.browser().open(&url)?;
        ensure!(page.status == 200, "the sign-in ended with {}: {}", page.status, page.body);
        let status = login.wait()?;
        ensure!(status.success(), "`fairlead login` ended with {status}");
        Ok(())
    }

    /// Asks an address by name from the laptop and returns the shop's answer.
    pub fn asks(&self, url: &str) -> anyhow::Result<Value> {
        let mut curl = self.command("curl");
        curl.args(["--silent", "--show-error", "--fail", "--max-time", "10", url]);
        say(curl)?.ok()?.json()
    }

    /// Begins a conversation with `host:port` by name, which lasts until it is dropped.
    pub fn converses_with(&self, place: &str) -> anyhow::Result<Conversation> {
        Conversation::with(self.command("curl"), place)
    }

    /// Asks an address by name and returns who answered.
    pub fn is_answered_by(&self, url: &str) -> anyhow::Result<String> {
        shop::answered_by(&self.asks(url)?)
    }

    /// Starts a role of the shop on a port of the laptop and waits until it answers.
    pub fn runs(&self, role: &str, port: u16) -> anyhow::Result<OwnProcess> {
        self.runs_with(role, port, &self.laptop(), &[])
    }

    /// Starts a role of the shop under a name, with words of its own, and waits until it answers.
    pub fn runs_with(
        &self,
        role: &str,
        port: u16,
        name: &str,
        words: &[&str],
    ) -> anyhow::Result<OwnProcess> {
        let shop = self.command(self.world.laptop_program("shop"));
        let own = OwnProcess::start(shop, role, port, name, words)?;
        crate::within(Duration::from_secs(5), "the developer's own process answers", || {
            self.asks(&format!("http://127.0.0.1:{port}/who"))
        })?;
        Ok(own)
    }

    /// Returns the name under which this person's own processes answer.
    pub fn laptop(&self) -> String {
        format!("{}-laptop", self.name)
    }

    /// Ends whatever a failed story left running, so that the next one has a chance.
    pub fn clears_up(&self) {
        let stopped = self.fairlead(&["stop"]);
        if stopped.is_err() || self.loses_the_daemon().is_err() {
            // There was nothing to end.
        }
    }

    /// Finds this person's daemon.
    pub fn daemon(&self) -> anyhow::Result<Process> {
        Process::of_user(&self.world.laptop_program("fairlead-daemon"), self.uid)
    }

    /// Kills this person's daemon with SIGKILL and returns the moment at which it was gone.
    pub fn loses_the_daemon(&self) -> anyhow::Result<Instant> {
        self.daemon()?.kill()
    }
}

/// Reads what `fairlead login` prints until it names the address to open.
fn address_shown_by(login: &mut std::process::Child) -> anyhow::Result<String> {
    use std::io::{BufRead, BufReader};
    let stderr = login.stderr.take().context("piped")?;
    let mut lines = BufReader::new(stderr).lines();
    let mut said = String::new();
    for line in lines.by_ref() {
        let line = line?;
        if let Some(at) = line.find("https://").filter(|_| line.contains("/oauth/authorize")) {
            let url = line[at..].split_whitespace().next().unwrap_or_default().to_owned();
            // Whatever else it says must not block it.
            std::thread::spawn(move || lines.for_each(drop));
            return Ok(url);
        }
        said.push_str(&line);
        said.push('\n');
    }
    bail!("`fairlead login` showed no address:\n{said}")
}
