//! A world without pods, for measuring how bytes travel: hub, agent and service are processes of one host, so that
//! nothing lies between them that is not ours.
//!
//! The agent runs as a process with the lab's kubeconfig. The one Service has no pods: its ClusterIP is an address of
//! the host on which the agent and the service run, so no kube-proxy and no cable is in the way. That host, the *office*,
//! may be the laptop itself: then the whole path is on the loopback interface. Or it is the hub's host: then there is
//! exactly one cable between the laptop and everything else.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddrV4},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, ensure};
use fairlead_lab::{Cluster, Host, IssuerOptions, Lab, Options, ProxyMode, Step, sibling};
use serde_json::Value;

use crate::{
    browser::Browser,
    command::say,
    crowd::Crowd,
    hub::{self, Hub},
    laptop::Laptop,
    patience::within,
    person::Person,
    process::Process,
    world::{World, found, open_to_all, publish_ca},
};

/// The Service at the end of the line, as it is consumed and as it is reached without us.
pub const SERVICE: &str = "bench/service";
const PORT: u16 = 7000;
const READY_WITHIN: Duration = Duration::from_secs(60);
/// What the chart would have made, and the Service. It has no selector: nobody but us answers for it.
const OBJECTS: &str = r#"
{apiVersion: v1, kind: Namespace, metadata: {name: fairlead-system}}
---
{apiVersion: v1, kind: Secret, metadata: {name: fairlead-agent-identity, namespace: fairlead-system}}
---
{apiVersion: coordination.k8s.io/v1, kind: Lease, metadata: {name: fairlead-agent-writer, namespace: fairlead-system}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: bench}}
---
{apiVersion: v1, kind: Service, metadata: {name: service, namespace: bench}, spec: {ports: [{port: 7000}]}}
"#;

#[derive(Debug)]
pub struct Line {
    // In the order in which they must go: the world, which ends the lab, last.
    agent: Tied,
    service: Tied,
    world: World,
    office: Host,
    crowd: Crowd,
}

/// A program on one of the lab's hosts, which goes with this.
#[derive(Debug)]
pub struct Tied(Child);

impl Tied {
    /// Starts a program that says nothing but to a log.
    pub fn start(mut command: Command, log: PathBuf) -> anyhow::Result<Self> {
        let log = fs::File::create(&log).with_context(|| log.display().to_string())?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Ok(Self(command.spawn().context("cannot start a program of the line")?))
    }

    /// Returns the program's own process.
    pub fn process(&self) -> anyhow::Result<Process> {
        let running = || Process::entered_by(&self.0);
        Ok(within(READY_WITHIN, "the program runs", running)?.0)
    }
}

impl Drop for Tied {
    fn drop(&mut self) {
        let ended = self.0.kill().and_then(|()| self.0.wait());
        ended.map(drop).unwrap_or_default();
    }
}

impl Line {
    /// Brings everything up and has ada consume the service.
    pub fn up(name: &str, office: Host) -> anyhow::Result<Self> {
        Self::up_among(name, office, Crowd::of(0))
    }

    /// Brings everything up with a crowd on the laptop, of whom nobody has signed in yet; has ada consume the service.
    pub fn up_among(name: &str, office: Host, crowd: Crowd) -> anyhow::Result<Self> {
        let cluster = Cluster::ours(ProxyMode::Iptables)?;
        let lab = Lab::up(&Options { name: name.to_owned(), cluster, ends_with_me: true })?;
        give_address(&lab, office)?;
        crowd.settles(&lab)?;
        // The agent talks to the API server, as its pods would.
        lab.let_pass(office, Host::Api)?;
        let folder = lab.folder().join("world");
        let data = folder.join("hub");
        fs::create_dir_all(&data)?;
        open_to_all(&folder)?;
        let service = serve(&lab, office)?;
        let issuer = Step::run("the identity provider starts", || {
            let groups = crowd.groups();
            lab.issuer_on(office, &IssuerOptions { groups, ..IssuerOptions::default() })
        })?;
        let hub = Step::run("the hub starts", || Hub::start_on(&lab, office, &data))?;
        let hub_ca = publish_ca(&hub, &folder)?;
        let olga = Browser::new(&lab, office, "olga", 0, &folder, &hub_ca);
        let token = Step::run("olga founds the organization", || found(&hub, &olga))?;
        let agent = start_agent(&lab, office, &token, &hub_ca)?;
        let laptop = Laptop::start(&lab, &folder)?;
        install_load(&folder)?;
        let world = World::of(lab, laptop, hub, issuer, folder);
        let line = Self { agent, service, world, office, crowd };
        Step::run("the agent enrols", || line.is_known())?;
        Step::run("ada consumes the service", || line.consume())?;
        Ok(line)
    }

    pub fn world(&self) -> &World {
        &self.world
    }

    pub fn ada(&self) -> Person<'_> {
        self.world.ada()
    }

    /// Returns everybody of the crowd.
    pub fn crowd(&self) -> impl Iterator<Item = Person<'_>> {
        self.crowd.people().map(|(name, uid)| Person::new(&self.world, name, uid))
    }

    /// Returns the owner's browser.
    pub fn olga(&self) -> Browser<'_> {
        let world = &self.world;
        Browser::new(world.lab(), self.office, "olga", 0, world.folder(), &world.hub_ca())
    }

    pub fn agent(&self) -> anyhow::Result<Process> {
        self.agent.process()
    }

    pub fn service(&self) -> anyhow::Result<Process> {
        self.service.process()
    }

    /// Returns the load's program, as ada runs it on the laptop.
    pub fn load(&self) -> Command {
        self.ada().command(self.world.laptop_program("load"))
    }

    /// Returns where the service is reached without us.
    pub fn raw(&self) -> SocketAddrV4 {
        let address =
            if self.office == Host::Laptop { Ipv4Addr::LOCALHOST } else { Host::Hub.address() };
        SocketAddrV4::new(address, PORT)
    }

    /// Returns where the service is reached by its name, which is ours to answer.
    pub fn consumed(&self) -> anyhow::Result<SocketAddrV4> {
        let mut getent = self.ada().command("getent");
        getent.args(["ahostsv4", "service.bench"]);
        let said = say(getent)?.ok()?.stdout;
        let address = said.split_whitespace().next().context("the name means nothing")?;
        Ok(SocketAddrV4::new(address.parse()?, PORT))
    }

    /// Ends ada's daemon and has a new one consume the service.
    pub fn begins_anew(&self) -> anyhow::Result<()> {
        self.ada().fairlead(&["stop"])?.ok()?;
        self.consume()
    }

    /// Ends ada's daemon and starts a new one, which consumes nothing.
    pub fn is_fresh(&self) -> anyhow::Result<()> {
        self.ada().fairlead(&["stop"])?.ok()?;
        self.ada().gets_ready()
    }

    /// Refuses ada's programs the hub's raw port, as many networks do: what is left is the port that serves everything
    /// else. Whoever has found the raw port closed does not try it again for a while.
    pub fn closes_the_raw_port(&self) -> anyhow::Result<()> {
        let ([_, raw], uid) = (hub::PORTS, self.ada().uid());
        self.nft(&format!(
            "table inet closed {{ chain output {{ type filter hook output priority 0; \
             meta skuid {uid} tcp dport {raw} reject with tcp reset; }}; }}"
        ))
    }

    /// Lets ada's programs through to it again.
    pub fn opens_the_raw_port(&self) -> anyhow::Result<()> {
        self.nft("delete table inet closed")
    }

    fn nft(&self, rules: &str) -> anyhow::Result<()> {
        let mut nft = self.world.lab().exec(Host::Laptop, "nft");
        nft.arg(rules);
        say(nft)?.ok()?;
        Ok(())
    }

    /// Ends everything and says when something resists.
    pub fn down(self) -> anyhow::Result<()> {
        drop((self.agent, self.service));
        self.world.down()
    }

    fn consume(&self) -> anyhow::Result<()> {
        self.ada().gets_ready()?;
        self.ada().fairlead(&["consume", SERVICE])?.ok()?;
        Ok(())
    }

    /// Returns the full names of the services that the hub knows.
    pub fn services_known(&self) -> anyhow::Result<Vec<String>> {
        let olga = self.olga();
        let seen = olga.call("GET", "/api/v1/teamspaces", None)?.json()?;
        let id = seen["teamspaces"][0]["id"].as_str().context("a teamspace has an id")?;
        let known = olga.call("GET", &format!("/api/v1/teamspaces/{id}/services"), None)?.json()?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let name = |service: &Value| text(&service["namespace"]) + "/" + &text(&service["name"]);
        Ok(known["services"].as_array().context("a list")?.iter().map(name).collect())
    }

    /// Waits until the hub has heard of the service.
    fn is_known(&self) -> anyhow::Result<()> {
        within(READY_WITHIN, "the hub knows the service", || {
            let known = self.services_known()?;
            let is_one = known.iter().any(|name| name == SERVICE);
            ensure!(is_one, "it knows {known:?}; the agent said: {}", self.agent_said());
            Ok(())
        })?;
        Ok(())
    }

    fn agent_said(&self) -> String {
        fs::read_to_string(self.world.lab().logs().join("agent.log")).unwrap_or_default()
    }
}

/// Gives the laptop the hub's address when it is the office, too, and takes the cable out of the hub.
fn give_address(lab: &Lab, office: Host) -> anyhow::Result<()> {
    if office == Host::Hub {
        return Ok(());
    }
    let address = format!("{}/32", Host::Hub.address());
    ip(lab, Host::Hub, &["link", "set", "eth0", "down"])?;
    ip(lab, office, &["address", "add", &address, "dev", "lo"])
}

fn serve(lab: &Lab, office: Host) -> anyhow::Result<Tied> {
    let mut load = lab.exec(office, sibling("load")?);
    load.args(["serve", &format!("0.0.0.0:{PORT}")]);
    Tied::start(load, lab.logs().join("service.log"))
}

/// Makes what the agent needs to be there, and starts it as the one replica it is.
fn start_agent(lab: &Lab, office: Host, token: &str, hub_ca: &Path) -> anyhow::Result<Tied> {
    let (objects, token_file) = (lab.folder().join("line.yaml"), lab.folder().join("join-token"));
    fs::write(&objects, OBJECTS)?;
    fs::write(&token_file, token)?;
    say(lab.kubectl(["apply", "--filename", &objects.display().to_string()]))?.ok()?;
    let address = "jsonpath={.spec.clusterIP}";
    let said =
        say(lab.kubectl(["-n", "bench", "get", "service", "service", "-o", address]))?.ok()?;
    ip(lab, office, &["address", "add", &format!("{}/32", said.stdout.trim()), "dev", "lo"])?;
    let mut agent = lab.exec(office, sibling("fairlead-agent")?);
    agent
        .env("KUBECONFIG", lab.kubeconfig())
        .args(["run", "--pod-name", "bench-agent"])
        .args(["--pod-ip", &Host::Hub.address().to_string()])
        .args(["--hub-url", hub::URL, "--hub-ca-file"])
        .arg(hub_ca)
        .arg("--join-token-file")
        .arg(token_file);
    Tied::start(agent, lab.logs().join("agent.log"))
}

fn install_load(folder: &Path) -> anyhow::Result<()> {
    let program = folder.join("bin/load");
    fs::copy(sibling("load")?, &program).context("cannot install the load")?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

fn ip(lab: &Lab, host: Host, words: &[&str]) -> anyhow::Result<()> {
    let mut ip = lab.exec(host, "ip");
    ip.args(words);
    say(ip)?.ok()?;
    Ok(())
}
