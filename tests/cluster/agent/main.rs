//! The cluster agent alone on the lab's Kubernetes, driven by a hub and a laptop of this suite: redirect and restore
//! under load, other people's writes, and the death of everything that can die.
//!
//! One lab for all stories; each one leaves the cluster as it found it, which the next one relies on.
//! `FAIRLEAD_PROXY_MODE=nftables` runs it with the other kube-proxy.

#![expect(clippy::print_stderr, reason = "a suite tells what it measured")]

mod hub;
mod laptop;
mod owners;
mod stories;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::ensure;
use fairlead_lab::{Host, Lab, Options, ProxyMode, Step};
use fairlead_model::SessionId;
use fairlead_tests::{Agent, Residue, Shop, Witness, say, within};
use fairlead_wire::link::v1::Phase;

use hub::{Intercept, TestHub};
use laptop::{Device, OwnProcess, TestLaptop};

const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct World {
    pub(crate) laptop: Option<TestLaptop>,
    _own: OwnProcess,
    pub(crate) device: Device,
    pub(crate) hub: TestHub,
    pub(crate) lab: Lab,
}

#[test]
fn the_agent_on_a_real_cluster() -> anyhow::Result<()> {
    rustls::crypto::aws_lc_rs::default_provider().install_default().expect("the first");
    let mode = match option_env_at_run("FAIRLEAD_PROXY_MODE").as_deref() {
        Some("nftables") => ProxyMode::Nftables,
        _ => ProxyMode::Iptables,
    };
    let mut world = World::up(mode)?;
    let only = option_env_at_run("FAIRLEAD_STORY");
    let mut failed = Vec::new();
    for (name, story) in stories::ALL {
        if only.as_ref().is_some_and(|only| !only.split(',').any(|word| name.contains(word))) {
            continue;
        }
        let begun = Instant::now();
        match tell(*story, &mut world) {
            Ok(()) => eprintln!("story ok in {:.1} s: {name}", begun.elapsed().as_secs_f32()),
            Err(error) => {
                eprintln!("story FAILED: {name}\n{error:#}\n{}", world.agent_log());
                failed.push(*name);
                world.ends_all();
            }
        }
    }
    let World { laptop, _own, hub, lab, .. } = world;
    drop((laptop, _own, hub));
    lab.down()?;
    ensure!(failed.is_empty(), "{} stories failed: {}", failed.len(), failed.join("; "));
    Ok(())
}

/// Plays a story and looks at what it left behind.
fn tell(story: fn(&mut World) -> anyhow::Result<()>, world: &mut World) -> anyhow::Result<()> {
    // Nodes remember for two minutes, per source port, where they had sent the first packet of a connection to a dead
    // replica; a later client that gets the same port fails. That belongs to the story that killed, not to the next.
    let address = Shop::attached(&world.lab).address("cart")?;
    let (address, _port) = address.split_once(':').unwrap_or_default();
    for node in [Host::Node1, Host::Node2] {
        let mut conntrack = world.lab.exec(node, "conntrack");
        conntrack.args(["--delete", "--orig-dst", address]);
        // It fails when there was nothing to forget.
        let _nothing = say(conntrack)?;
    }
    let residue = Residue::of(&world.lab)?;
    let witness = Witness::begins(&world.lab)?;
    story(world)?;
    within(PATIENCE, "nothing is left behind", || {
        Residue::of(&world.lab)?.is_the_same_as(&residue)
    })?;
    witness.saw_no_change()
}

#[expect(clippy::disallowed_methods, reason = "a suite's own switches, read once here")]
fn option_env_at_run(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

impl World {
    fn up(proxy_mode: ProxyMode) -> anyhow::Result<Self> {
        let name = option_env_at_run("FAIRLEAD_LAB").unwrap_or_else(|| "agent".to_owned());
        let lab = Lab::up(&Options { name, proxy_mode, ends_with_me: true, ..Options::default() })?;
        let folder = lab.folder().join("images");
        std::fs::create_dir_all(&folder)?;
        Step::run("the shop opens", || {
            Shop::import(&lab, &folder)?;
            Shop::open(&lab).map(drop)
        })?;
        let hub = TestHub::start(&lab)?;
        Step::run("the agent enrols", || {
            Agent::import(&lab, &folder)?;
            Agent::install(&lab, &hub.ca, hub::TOKEN).map(drop)
        })?;
        let device = Device::enrol(&hub)?;
        let laptop = Some(TestLaptop::start(&lab, &hub, &device)?);
        let world = Self { laptop, _own: OwnProcess::start(&lab)?, device, hub, lab };
        world.both_replicas_are_linked()?;
        Ok(world)
    }

    pub(crate) fn both_replicas_are_linked(&self) -> anyhow::Result<()> {
        within(Duration::from_secs(60), "both replicas are linked", || {
            ensure!(self.hub.replicas() >= 2, "{} are", self.hub.replicas());
            Ok(())
        })?;
        Ok(())
    }

    pub(crate) fn shop(&self) -> anyhow::Result<Shop<'_>> {
        Shop::open(&self.lab)
    }

    pub(crate) fn agent(&self) -> Agent<'_> {
        Agent::of(&self.lab)
    }

    pub(crate) fn cart(&self, grace_s: u32) -> anyhow::Result<SessionId> {
        let intercept = Intercept {
            service: "shop/cart",
            service_port: 80,
            laptop_port: laptop::PORT,
            grace_s,
        };
        self.hub.intercept(intercept, self.device.thumbprint)
    }

    /// Waits for a phase and returns how long that took.
    pub(crate) fn becomes(
        &self,
        session: SessionId,
        phase: Phase,
        patience: Duration,
    ) -> anyhow::Result<Duration> {
        let ((), took) = within(patience, &format!("the session is {phase:?}"), || {
            let seen = self.hub.phase(session);
            ensure!(seen.as_ref().is_some_and(|(is, _)| *is == phase), "it is {seen:?}");
            Ok(())
        })?;
        Ok(took)
    }

    pub(crate) fn detail(&self, session: SessionId) -> String {
        self.hub.phase(session).map(|(_, detail)| detail).unwrap_or_default()
    }

    /// Begins an intercept of `shop/cart` and waits until it is active.
    pub(crate) fn active_cart(&self, grace_s: u32) -> anyhow::Result<SessionId> {
        let session = self.cart(grace_s)?;
        self.becomes(session, Phase::Active, PATIENCE)?;
        Ok(session)
    }

    /// Waits until new connections from both nodes are answered by `wanted` five times in a row.
    pub(crate) fn answered_by(
        &self,
        wanted: impl Fn(&str) -> bool,
        patience: Duration,
    ) -> anyhow::Result<Duration> {
        let shop = Shop::attached(&self.lab);
        let ((), took) = within(patience, "everybody is answered as expected", || {
            for _ in 0..5 {
                for host in [Host::Node1, Host::Node2] {
                    let answered = shop.who_answers(host, "cart")?;
                    ensure!(wanted(&answered), "answered by {answered}");
                }
            }
            Ok(())
        })?;
        Ok(took)
    }

    pub(crate) fn kubectl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut kubectl = self.lab.kubectl([]);
        kubectl.args(arguments);
        Ok(say(kubectl)?.ok()?.stdout)
    }

    pub(crate) fn key(&self) -> anyhow::Result<String> {
        let path = "jsonpath={.spec.selector.fairlead\\.dev/intercept}";
        self.kubectl(&["-n", "shop", "get", "service", "cart", "-o", path])
    }

    /// After a failed story: the next one must not inherit its sessions.
    fn ends_all(&mut self) {
        self.hub.end_all();
        if self.laptop.is_none() {
            self.laptop = TestLaptop::start(&self.lab, &self.hub, &self.device).ok();
        }
        std::thread::sleep(Duration::from_secs(5));
    }

    pub(crate) fn folder(&self) -> PathBuf {
        self.lab.folder().to_owned()
    }

    fn agent_log(&self) -> String {
        let log = |pod: &String| {
            let said = self.kubectl(&[
                "-n",
                "fairlead-system",
                "logs",
                pod,
                "--tail=40",
                "--request-timeout=5s",
            ]);
            format!("--- {pod}\n{}", said.unwrap_or_else(|error| format!("{error:#}")))
        };
        self.agent().replicas().unwrap_or_default().iter().map(log).collect()
    }
}
