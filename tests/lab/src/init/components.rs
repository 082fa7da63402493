//! Starts the programs that stay, each with a log of its own, and tells from it why one died.

use super::network::on_host;
use crate::{Host, cluster::Ours, place::Place, tools};
use anyhow::{Context, bail};
use std::{
    fs::{self, File},
    process::{Child, Command, Stdio},
    sync::Mutex,
    time::{Duration, Instant},
};

/// Slow machines exist; a component that needs longer than this is broken.
const PATIENCE: Duration = Duration::from_secs(180);

/// The programs that were started, and what is needed to start more.
pub(crate) struct Components<'a> {
    pub(crate) place: &'a Place,
    ours: &'a Ours,
    search_path: &'a str,
    running: Mutex<Vec<(String, Child)>>,
}

impl<'a> Components<'a> {
    pub(crate) fn new(ours: &'a Ours, search_path: &'a str, place: &'a Place) -> Self {
        Self { place, ours, search_path, running: Mutex::default() }
    }

    /// Returns a command for a Kubernetes program on a host.
    pub(crate) fn kube(&self, host: Host, program: &str) -> Command {
        let mut command = self.program(host, &self.ours.kube.display().to_string());
        command.arg(program);
        command
    }

    /// Returns a command on a host that inherits nothing from whoever started the lab, proxies above all.
    pub(crate) fn program(&self, host: Host, program: &str) -> Command {
        let mut command = on_host(host, program);
        command.env_clear().env("PATH", self.search_path).env("HOME", "/root");
        command
    }

    /// Returns `kubectl` with all rights.
    pub(crate) fn kubectl(&self) -> Command {
        let kube = self.kube(Host::Api, "kubectl");
        let mut command = tools::remembering_in(kube, &self.place.remembered());
        command.arg("--kubeconfig").arg(self.place.kubeconfig());
        command
    }

    /// Starts a program that stays.
    pub(crate) fn start(&self, name: &str, command: &mut Command) -> anyhow::Result<()> {
        let log = File::create(self.place.log(name))?;
        let child = command
            .current_dir(self.place.folder())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        self.running.lock().expect("nobody panics with the list").push((name.to_owned(), child));
        Ok(())
    }

    /// Asks until the answer is yes; fails at once when a component dies, with the end of its log.
    pub(crate) fn wait_until(
        &self,
        what: &str,
        every: Duration,
        mut yes: impl FnMut() -> bool,
    ) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !yes() {
            self.all_alive()?;
            if Instant::now() > deadline {
                bail!(
                    "{what}: not within {} s; logs: {}",
                    PATIENCE.as_secs(),
                    self.place.logs().display()
                );
            }
            std::thread::sleep(every);
        }
        Ok(())
    }

    fn all_alive(&self) -> anyhow::Result<()> {
        for (name, child) in self.running.lock().expect("nobody panics with the list").iter_mut() {
            if let Some(status) = child.try_wait()? {
                let log = fs::read_to_string(self.place.log(name)).unwrap_or_default();
                let lines: Vec<_> = log.lines().collect();
                let last = lines[lines.len().saturating_sub(12)..].join("\n    ");
                bail!("{name} died ({status}); the end of its log:\n    {last}");
            }
        }
        Ok(())
    }
}
