//! Everything around a developer, on real parts: the lab's Kubernetes with the shop in it, the identity provider, the
//! hub with one organization, the cluster agent enrolled in one teamspace, the laptop with its supervisor.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context, ensure};
use fairlead_lab::{Cluster, Host, Issuer, IssuerOptions, Lab, Options, Step};
use serde_json::json;

use crate::{
    agent::Agent,
    browser::Browser,
    command::say,
    door::open_door_at,
    hub::{self, Hub},
    laptop::Laptop,
    patience::within,
    person::Person,
    service::Service,
    shop::Shop,
};

const ADA: (&str, u32) = ("ada", 7001);
const GRACE: (&str, u32) = ("grace", 7002);
const MARY: (&str, u32) = ("mary", 7003);
/// For what the world needs to be itself again.
const PATIENCE: Duration = Duration::from_secs(60);
/// The teamspace that stands for the lab's cluster.
pub const TEAMSPACE: &str = "lab";

/// What can be chosen about a world.
#[derive(Debug, Clone)]
pub struct WorldOptions {
    /// Names the lab below it.
    pub name: String,
    pub cluster: Cluster,
}

#[derive(Debug)]
pub struct World {
    // In the order in which they must go: the lab last.
    laptop: Mutex<Laptop>,
    hub: Mutex<Hub>,
    issuer: Issuer,
    hub_ca: PathBuf,
    programs: PathBuf,
    folder: PathBuf,
    lab: Lab,
}

impl World {
    /// Brings everything up, in the order in which people would, and tells each step on standard error.
    pub fn up(options: &WorldOptions) -> anyhow::Result<Self> {
        let lab = Lab::up(&Options {
            name: options.name.clone(),
            cluster: options.cluster.clone(),
            ends_with_me: true,
        })?;
        open_doors(&lab)?;
        let folder = lab.folder().join("world");
        fs::create_dir(&folder)?;
        open_to_all(&folder)?;
        Step::run("the shop opens", || Shop::open(&lab).map(drop))?;
        let groups = BTreeMap::from([(MARY.0.to_owned(), vec!["developers".to_owned()])]);
        let issuer = Step::run("the identity provider starts", || {
            lab.issuer(&IssuerOptions { groups, ..IssuerOptions::default() })
        })?;
        let data = folder.join("hub");
        fs::create_dir(&data)?;
        let hub = Step::run("the hub starts", || Hub::start(&lab, &data))?;
        pods_reach_the_hub(&lab)?;
        let hub_ca = publish_ca(&hub, &folder)?;
        let olga = Browser::new(&lab, Host::Hub, "olga", 0, &folder, &hub_ca);
        let token = Step::run("olga founds the organization", || found(&hub, &olga))?;
        Step::run("the cluster agent enrols", || {
            Agent::import(&lab)?;
            Agent::install(&lab, &hub_ca, &token).map(drop)
        })?;
        let laptop = Laptop::start(&lab, &folder)?;
        Ok(Self::of(lab, laptop, hub, issuer, folder))
    }

    /// Makes a world of parts that are up.
    pub(crate) fn of(lab: Lab, laptop: Laptop, hub: Hub, issuer: Issuer, folder: PathBuf) -> Self {
        Self {
            laptop: Mutex::new(laptop),
            hub: Mutex::new(hub),
            issuer,
            hub_ca: hub_ca_in(&folder),
            programs: folder.join("bin"),
            folder,
            lab,
        }
    }

    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// Returns the hub, for whoever kills it.
    pub fn hub(&self) -> MutexGuard<'_, Hub> {
        locked(&self.hub)
    }

    /// Returns the laptop, for whoever kills its supervisor.
    pub fn laptop(&self) -> MutexGuard<'_, Laptop> {
        locked(&self.laptop)
    }

    pub fn issuer(&self) -> &Issuer {
        &self.issuer
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns a file that every user can read: the certificate authority of the hub.
    pub fn hub_ca(&self) -> PathBuf {
        self.hub_ca.clone()
    }

    pub fn laptop_program(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }

    pub fn shop(&self) -> Shop<'_> {
        Shop::attached(&self.lab)
    }

    pub fn agent(&self) -> Agent<'_> {
        Agent::of(&self.lab)
    }

    /// Ada is a developer.
    pub fn ada(&self) -> Person<'_> {
        Person::new(self, ADA.0, ADA.1)
    }

    /// Grace may look, and nothing else.
    pub fn grace(&self) -> Person<'_> {
        Person::new(self, GRACE.0, GRACE.1)
    }

    /// Mary is a developer, too.
    pub fn mary(&self) -> Person<'_> {
        Person::new(self, MARY.0, MARY.1)
    }

    /// Olga owns the organization; she uses the console only, and not from the laptop.
    pub fn olga(&self) -> Browser<'_> {
        Browser::new(&self.lab, Host::Hub, "olga", 0, &self.folder, &self.hub_ca)
    }

    /// Finds a Service by its full name: `shop/cart`.
    pub fn service(&self, full_name: &str) -> anyhow::Result<Service<'_>> {
        Service::found(&self.lab, full_name)
    }

    /// Runs kubectl with all rights and returns what it printed.
    pub fn kubectl(&self, words: &[&str]) -> anyhow::Result<String> {
        let mut kubectl = self.lab.kubectl([]);
        kubectl.args(words);
        Ok(say(kubectl)?.ok()?.stdout)
    }

    /// Waits until both replicas are ready, and the hub has a link to each of them.
    pub fn both_replicas_are_linked(&self) -> anyhow::Result<()> {
        self.agent().wait_ready()?;
        let replicas = self.agent().replicas()?;
        within(PATIENCE, "both replicas are linked", || {
            let seen = self.olga().call("GET", "/api/v1/teamspaces", None)?.json()?;
            let linked = &seen["teamspaces"][0]["replicas"];
            let is_linked = |replica: &String| {
                linked.as_array().is_some_and(|all| all.iter().any(|r| r["name"] == **replica))
            };
            ensure!(replicas.iter().all(is_linked), "{linked} of {replicas:?}");
            Ok(())
        })?;
        Ok(())
    }

    /// Returns what the hub knows of the services of the cluster, by full name.
    pub fn catalogue(&self) -> anyhow::Result<BTreeMap<String, serde_json::Value>> {
        let olga = self.olga();
        let teamspaces = olga.call("GET", "/api/v1/teamspaces", None)?.json()?;
        let id = teamspaces["teamspaces"][0]["id"].as_str().context("a teamspace")?;
        let path = format!("/api/v1/teamspaces/{id}/services");
        let services = olga.call("GET", &path, None)?.json()?;
        let services = services["services"].as_array().context("a list")?.iter();
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let named = services.map(|service| {
            let name = format!("{}/{}", text(&service["namespace"]), text(&service["name"]));
            (name, service.clone())
        });
        Ok(named.collect())
    }

    /// Nodes remember for two minutes, per source port, where they had sent the first packet of a connection to a dead
    /// replica; a later client with the same port fails. That belongs to the story that killed, not to the next one.
    pub fn forgets_dead_connections(&self) -> anyhow::Result<()> {
        for node in Host::NODES {
            let mut conntrack = self.lab.exec(node, "conntrack");
            conntrack.args(["--delete", "--proto", "tcp", "--state", "SYN_SENT"]);
            // It fails when there is nothing to forget.
            say(conntrack).map(drop)?;
        }
        Ok(())
    }

    /// Refuses every new carrier at the hub's raw port, for as long as the lab is there: what is left is the port that
    /// serves everything else.
    pub fn closes_the_raw_port(&self) -> anyhow::Result<()> {
        let [_, raw] = hub::PORTS;
        let mut nft = self.lab.exec(Host::Hub, "nft");
        let refused = format!("ct state new tcp dport {raw} reject with tcp reset");
        nft.arg(format!(
            "table inet closed {{ chain input {{ type filter hook input priority 0; {refused}; }}; }}"
        ));
        say(nft)?.ok()?;
        Ok(())
    }

    /// Ends whatever a failed story left running and brings back what it killed, so that the next one has a chance.
    pub fn clears_up(&self) -> anyhow::Result<()> {
        for node in Host::NODES {
            self.kubectl(&["uncordon", node.name()])?;
        }
        let mut hub = locked(&self.hub);
        if hub.has_ended() {
            hub.start_again(&self.lab)?;
        }
        drop(hub);
        let mut laptop = locked(&self.laptop);
        if !laptop.has_supervisor(&self.lab) {
            laptop.start_supervisor(&self.lab)?;
        }
        drop(laptop);
        for person in [self.ada(), self.grace(), self.mary()] {
            person.clears_up();
        }
        Ok(())
    }

    /// Returns the end of what hub and agent logged, for whoever must understand a failure.
    pub fn last_words(&self) -> String {
        let agent = self.agent().log().unwrap_or_else(|error| format!("{error:#}"));
        format!(
            "{}
the agent said:
{agent}",
            locked(&self.hub).last_words()
        )
    }

    /// Ends everything and says when something resists.
    pub fn down(self) -> anyhow::Result<()> {
        drop(self.laptop);
        drop(self.hub);
        drop(self.issuer);
        self.lab.down()
    }
}

/// Opens this machine's address to the pods of a cluster elsewhere, for the hub's two ports and nothing else.
fn open_doors(lab: &Lab) -> anyhow::Result<()> {
    let Some(address) = lab.cluster().door() else { return Ok(()) };
    hub::PORTS.iter().try_for_each(|port| open_door_at(lab, address, *port))
}

fn pods_reach_the_hub(lab: &Lab) -> anyhow::Result<()> {
    let Some(address) = lab.cluster().door() else { return Ok(()) };
    Step::run("pods of the cluster reach the hub", || {
        let shop = Shop::attached(lab);
        hub::PORTS.iter().try_for_each(|port| shop.reaches((address, *port).into())).with_context(|| {
            format!(
                "the cluster's pods do not reach the hub at {address}; open these ports to them: {:?}, or name another \
                 address of this machine: --hub-address IP",
                hub::PORTS
            )
        })
    })
}

/// A story that panicked has not broken a process handle.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn hub_ca_in(folder: &Path) -> PathBuf {
    folder.join("hub-ca.pem")
}

/// Copies the certificate authority of the hub to where everybody can read it.
pub(crate) fn publish_ca(hub: &Hub, folder: &Path) -> anyhow::Result<PathBuf> {
    let hub_ca = hub_ca_in(folder);
    fs::copy(hub.ca(), &hub_ca).context("the hub's certificate authority")?;
    open_to_all(&hub_ca)?;
    Ok(hub_ca)
}

/// Uses the setup link, signs the owner in, makes a teamspace and returns a join token for it.
pub(crate) fn found(hub: &Hub, olga: &Browser<'_>) -> anyhow::Result<String> {
    let setup = json!({
        "token": hub.setup_token()?,
        "organization": {"slug": "acme", "name": "Acme"},
        "owner_email": "olga@example.test",
        "oidc": {
            "issuer": "http://idp.fairlead.test:9090",
            "client_id": "fairlead",
            "client_secret": "lab-secret",
            "groups_claim": "groups",
            "scopes": ["openid", "email", "profile", "groups"],
            "email_domains": ["example.test"],
        },
        "group_roles": [
            {"group": "developers", "role": "developer"},
            {"group": "viewers", "role": "viewer"},
        ],
    });
    olga.call("POST", "/api/v1/setup", Some(&setup))?.json()?;
    let page = olga.open(&format!("{}/login", hub::URL))?;
    anyhow::ensure!(page.status == 200, "signing in ended with {}: {}", page.status, page.body);
    let teamspace =
        olga.call("POST", "/api/v1/teamspaces", Some(&json!({"name": TEAMSPACE})))?.json()?;
    let id = teamspace["id"].as_str().context("a teamspace has an id")?;
    let token = olga
        .call("POST", &format!("/api/v1/teamspaces/{id}/join-tokens"), Some(&json!({})))?
        .json()?;
    Ok(token["token"].as_str().context("a join token is shown once")?.to_owned())
}

pub(crate) fn open_to_all(path: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    Ok(())
}
