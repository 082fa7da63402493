//! Everything around a developer, on real parts: the lab's Kubernetes with the shop in it, the identity provider, the
//! hub with one organization, the cluster agent enrolled in one teamspace, the laptop with its supervisor.

use std::{fs, path::PathBuf, sync::Mutex};

use anyhow::Context;
use fairlead_lab::{Issuer, IssuerOptions, Lab, Options, ProxyMode, Step};
use serde_json::json;

use crate::{
    agent::Agent,
    browser::Browser,
    hub::{self, Hub},
    laptop::Laptop,
    person::Person,
    shop::Shop,
};

const ADA: (&str, u32) = ("ada", 7001);
const GRACE: (&str, u32) = ("grace", 7002);
/// The teamspace that stands for the lab's cluster.
pub const TEAMSPACE: &str = "lab";

/// What can be chosen about a world.
#[derive(Debug, Clone)]
pub struct WorldOptions {
    /// Names the lab below it.
    pub name: String,
    pub proxy_mode: ProxyMode,
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
            proxy_mode: options.proxy_mode,
            ends_with_me: true,
            ..Options::default()
        })?;
        let folder = lab.folder().join("world");
        fs::create_dir(&folder)?;
        open_to_all(&folder)?;
        Step::run("the shop opens", || {
            Shop::import(&lab, &folder)?;
            Shop::open(&lab).map(drop)
        })?;
        let issuer =
            Step::run("the identity provider starts", || lab.issuer(&IssuerOptions::default()))?;
        let data = folder.join("hub");
        fs::create_dir(&data)?;
        let hub = Step::run("the hub starts", || Hub::start(&lab, &data))?;
        let hub_ca = folder.join("hub-ca.pem");
        fs::copy(hub.ca(), &hub_ca).context("the hub's certificate authority")?;
        open_to_all(&hub_ca)?;
        let olga = Browser::new(&lab, "olga", 0, &folder, &hub_ca);
        let token = Step::run("olga founds the organization", || found(&hub, &olga))?;
        Step::run("the cluster agent enrols", || {
            Agent::import(&lab, &folder)?;
            Agent::install(&lab, &hub_ca, &token).map(drop)
        })?;
        let laptop = Laptop::start(&lab, &folder)?;
        let programs = folder.join("bin");
        Ok(Self {
            laptop: Mutex::new(laptop),
            hub: Mutex::new(hub),
            issuer,
            hub_ca,
            programs,
            folder,
            lab,
        })
    }

    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    pub fn hub(&self) -> &Mutex<Hub> {
        &self.hub
    }

    pub fn laptop(&self) -> &Mutex<Laptop> {
        &self.laptop
    }

    pub fn issuer(&self) -> &Issuer {
        &self.issuer
    }

    pub fn folder(&self) -> &std::path::Path {
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

    /// Olga owns the organization; she uses the console only.
    pub fn olga(&self) -> Browser<'_> {
        Browser::new(&self.lab, "olga", 0, &self.folder, &self.hub_ca)
    }

    /// Ends everything and says when something resists.
    pub fn down(self) -> anyhow::Result<()> {
        drop(self.laptop);
        drop(self.hub);
        drop(self.issuer);
        self.lab.down()
    }
}

/// Uses the setup link, signs the owner in, makes a teamspace and returns a join token for it.
fn found(hub: &Hub, olga: &Browser<'_>) -> anyhow::Result<String> {
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

fn open_to_all(path: &std::path::Path) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    Ok(())
}
