//! Somebody at the laptop: signs in, runs `fairlead`, opens connections, runs a process of their own.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use fairlead_lab::Host;
use serde_json::Value;

use crate::{
    browser::Browser,
    command::{Said, say},
    hub, shop,
    shop::OwnProcess,
    world::World,
};

#[derive(Debug)]
pub struct Person<'w> {
    world: &'w World,
    name: &'static str,
    uid: u32,
}

impl<'w> Person<'w> {
    pub(crate) fn new(world: &'w World, name: &'static str, uid: u32) -> Self {
        Self { world, name, uid }
    }

    pub fn home(&self) -> PathBuf {
        self.world.lab().home(self.name)
    }

    pub fn browser(&self) -> Browser<'w> {
        Browser::new(self.world.lab(), self.name, self.uid, &self.home(), &self.world.hub_ca())
    }

    /// Returns a command that runs on the laptop as this person, in their home.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = self.world.lab().exec_as(Host::Laptop, self.uid, program);
        command.env("HOME", self.home()).env_remove("XDG_CONFIG_HOME").env_remove("XDG_STATE_HOME");
        command.current_dir(self.home());
        command
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

    /// Runs a read verb with `-o json` and returns what it printed.
    pub fn reads(&self, words: &[&str]) -> anyhow::Result<Value> {
        self.fairlead(&[words, &["-o", "json"]].concat())?.ok()?.json()
    }

    /// Runs `fairlead login` and plays the browser that it asks for.
    pub fn signs_in(&self) -> anyhow::Result<()> {
        let ca = self.world.hub_ca();
        let ca = ca.to_str().context("the lab's paths are UTF-8")?;
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

    /// Asks an address by name and returns who answered.
    pub fn is_answered_by(&self, url: &str) -> anyhow::Result<String> {
        shop::answered_by(&self.asks(url)?)
    }

    /// Starts a role of the shop on a port of the laptop.
    pub fn runs(&self, role: &str, port: u16) -> anyhow::Result<OwnProcess> {
        let shop = self.command(self.world.laptop_program("shop"));
        let own = OwnProcess::start(shop, role, port, &format!("{}-laptop", self.name))?;
        crate::within(Duration::from_secs(5), "the developer's own process answers", || {
            self.asks(&format!("http://127.0.0.1:{port}/who"))
        })?;
        Ok(own)
    }

    /// Ends whatever a failed story left running, so that the next one has a chance.
    pub fn clears_up(&self) {
        let stopped = self.fairlead(&["stop"]);
        if stopped.is_err() || self.loses_the_daemon().is_err() {
            // There was nothing to end.
        }
    }

    /// Kills this person's daemon with SIGKILL.
    pub fn loses_the_daemon(&self) -> anyhow::Result<()> {
        let mut pkill = self.world.lab().exec(Host::Laptop, "pkill");
        pkill.args(["-KILL", "-U", &self.uid.to_string(), "-x", "fairlead-daemon"]);
        say(pkill)?.ok()?;
        Ok(())
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
