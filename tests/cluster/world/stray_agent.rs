//! A second installation of the cluster agent. Where it cannot join, its log says what is wrong and what to do about it.

use std::{
    process::Command,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, ensure};
use fairlead_lab::{Host, tools};
use fairlead_model::{Token, TokenKind};
use fairlead_tests::{HUB_URL, Said, World, say, within};
use fairlead_tunnel::connect::{Connector, HubTrust, dial_hub};
use fairlead_wire::{
    authority::TeamspaceAuthority,
    enrolment,
    key::Key,
    link::v1::{EnrolRequest, cluster_links_client::ClusterLinksClient},
};
use private_postgres::Installation;
use serde_json::json;

use crate::{by_hand, intercepting::PATIENCE, pen::database_url};

const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/charts/agent-cluster");
const NAMESPACE: &str = "stray-system";
const NEVER_MADE: &str = "flj_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
/// How it ends whenever a token is not taken.
const MAKE_ANOTHER: &str = "Make a new one in the hub and give it to the chart (joinToken)";

pub(crate) fn cannot_join(world: &World) -> anyhow::Result<()> {
    with_a_stray(world, every_way)
}

/// Gives a story a release that is not installed yet and a teamspace that no cluster has joined, and removes both.
pub(crate) fn with_a_stray(
    world: &World,
    play: impl FnOnce(&Stray<'_>, &Teamspace<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let (stray, teamspace) = (Stray { world }, Teamspace::made(world)?);
    let played = play(&stray, &teamspace);
    let removed = stray.goes();
    played.and(removed).and(teamspace.goes())
}

fn every_way(stray: &Stray<'_>, teamspace: &Teamspace<'_>) -> anyhow::Result<()> {
    let nowhere = "https://hub.fairlead.test:9999";
    stray.installs(nowhere, true, NEVER_MADE)?;
    stray.says(&[
        "This cluster is not enrolled: https://hub.fairlead.test:9999: the hub at hub.fairlead.test cannot be reached",
        "check hub.url",
    ])?;
    stray.installs(HUB_URL, false, NEVER_MADE)?;
    stray.says(&[
        "is signed by an authority that this machine does not trust",
        "give the chart the certificate of that authority (hub.caCertificate)",
    ])?;
    stray.installs(HUB_URL, true, NEVER_MADE)?;
    stray.says(&["the hub does not know this join token", MAKE_ANOTHER])?;

    let used = teamspace.join_token()?;
    enrols(stray.world, used.clone())?;
    stray.installs(HUB_URL, true, &used)?;
    stray.says(&["this join token was used already", MAKE_ANOTHER])?;
    let expired = teamspace.join_token()?;
    let an_hour_passes =
        "update join_tokens set expires_at = expires_at - interval '1 hour' where used_at is null";
    sql(stray.world, an_hour_passes)?;
    stray.installs(HUB_URL, true, &expired)?;
    stray.says(&["this join token expired", "min ago", MAKE_ANOTHER])
}

/// The release `stray`, beside the one that serves the lab.
pub(crate) struct Stray<'w> {
    pub(crate) world: &'w World,
}

impl Stray<'_> {
    /// Installs it anew.
    pub(crate) fn installs(&self, hub: &str, with_ca: bool, token: &str) -> anyhow::Result<()> {
        // A kubelet gives a new pod what it remembers of a ConfigMap for as long as an older pod holds on to it.
        let agent = ["delete", "deployment", "stray-agent", "--ignore-not-found"];
        self.kubectl(&[&agent[..], &["--cascade=foreground", "--wait"]].concat())?.ok()?;
        let image = self.world.lab().cluster().image("fairlead-agent")?;
        let mut helm = self.helm()?;
        helm.args(["upgrade", "--install", "stray", CHART, "--namespace", NAMESPACE])
            .args(["--create-namespace", "--set", "replicas=1"])
            .args(["--set", &format!("image.repository={}", image.repository)])
            .args(["--set-string", &format!("image.tag={}", image.tag)])
            .args(["--set", &format!("hub.url={hub}")])
            .args(["--set", &format!("hub.hostAliases[0].ip={}", Host::Hub.address())])
            .args(["--set", "hub.hostAliases[0].hostnames[0]=hub.fairlead.test"])
            .args(["--set", &format!("joinToken.value={token}")]);
        if with_ca {
            helm.arg("--set-file");
            helm.arg(format!("hub.caCertificate={}", self.world.hub_ca().display()));
        }
        say(helm)?.ok()?;
        Ok(())
    }

    /// Waits until its log has all of these.
    pub(crate) fn says(&self, wanted: &[&str]) -> anyhow::Result<()> {
        let component = "app.kubernetes.io/component=agent";
        within(PATIENCE * 2, "the agent's log says what to do", || {
            let log = self.kubectl(&["logs", "--selector", component, "--tail=30"])?;
            for wanted in wanted {
                ensure!(log.stdout.contains(wanted), "`{wanted}` is wanted:\n{log}");
            }
            Ok(())
        })?;
        Ok(())
    }

    /// Takes its agent away for as long as it stays installed.
    pub(crate) fn loses_its_agent(&self) -> anyhow::Result<()> {
        self.kubectl(&["scale", "deployment/stray-agent", "--replicas=0"])?.ok()?;
        Ok(())
    }

    fn goes(&self) -> anyhow::Result<()> {
        let mut helm = self.helm()?;
        helm.args(["uninstall", "stray", "--namespace", NAMESPACE, "--wait"]);
        say(helm)?.ok()?;
        say(self.world.lab().kubectl(["delete", "namespace", NAMESPACE]))?.ok()?;
        Ok(())
    }

    fn helm(&self) -> anyhow::Result<Command> {
        Ok(self.world.lab().helm(&tools::helm()?))
    }

    fn kubectl(&self, words: &[&str]) -> anyhow::Result<Said> {
        let mut kubectl = self.world.lab().kubectl(["--namespace", NAMESPACE]);
        kubectl.args(words);
        say(kubectl)
    }
}

/// A teamspace for which tokens are made.
pub(crate) struct Teamspace<'w> {
    world: &'w World,
    path: String,
}

impl<'w> Teamspace<'w> {
    fn made(world: &'w World) -> anyhow::Result<Self> {
        let asked = json!({"name": "stray"});
        let made = world.olga().call("POST", "/api/v1/teamspaces", Some(&asked))?.json()?;
        let id = made["id"].as_str().context("a teamspace has an id")?;
        Ok(Self { world, path: format!("/api/v1/teamspaces/{id}") })
    }

    pub(crate) fn join_token(&self) -> anyhow::Result<String> {
        let path = format!("{}/join-tokens", self.path);
        let token = self.world.olga().call("POST", &path, Some(&json!({})))?.json()?;
        Ok(token["token"].as_str().context("a join token is shown once")?.to_owned())
    }

    fn goes(self) -> anyhow::Result<()> {
        self.world.olga().call("DELETE", &self.path, None)?.json().map(drop)
    }
}

/// Uses a token up, as another cluster's agent would.
fn enrols(world: &World, join_token: String) -> anyhow::Result<()> {
    let ca = world.hub_ca();
    by_hand::on_the_laptop(world, async move || {
        let hub = dial_hub(HUB_URL, &Connector::direct(HubTrust::new(Some(&ca))?)).await?;
        let now = SystemTime::now();
        let authority = TeamspaceAuthority::create(Key::generate()?, now)?;
        let token = Token::parse_as(TokenKind::Join, &join_token)?;
        let cluster_uid = "a cluster that nobody has seen";
        let signature = enrolment::sign(authority.key(), &token, cluster_uid, hub.host());
        let request = EnrolRequest {
            join_token,
            teamspace_certificate: authority.certificate().to_vec(),
            signature: signature.to_vec(),
            cluster_uid: cluster_uid.to_owned(),
            agent_version: "by hand".to_owned(),
            agent_time_s: now.duration_since(UNIX_EPOCH)?.as_secs().try_into()?,
        };
        ClusterLinksClient::new(hub.channel()).enrol(request).await?;
        Ok(())
    })
}

fn sql(world: &World, statement: &str) -> anyhow::Result<()> {
    let mut psql = Command::new(Installation::find()?.program("psql"));
    psql.arg(database_url(&world.folder().join("hub"))?).args(["--command", statement]);
    say(psql)?.ok()?;
    Ok(())
}
