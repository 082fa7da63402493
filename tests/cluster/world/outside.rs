//! A host outside the cluster is reached through it, by its own name, where a policy says so and while it does.

use anyhow::{Context, ensure};
use fairlead_lab::Host;
use fairlead_tests::{Running, Story, World, begin, within};
use serde_json::json;

use crate::intercepting::PATIENCE;

const DENIED: i32 = 30;
/// The cluster's DNS knows both, and nobody else does. The second one leads back into the cluster.
const DATABASE: &str = "db.outside.test:7000";
const INSIDE: &str = "inside.outside.test:443";

/// Speaks with the database until it is cut off; each line must come back.
const CONVERSATION: &str = r#"
    exec 3<>/dev/tcp/db.outside.test/7000 && read -r -t 10 -u 3 greeting || exit 1
    echo "$greeting"
    while echo line >&3 && read -r -t 10 -u 3 line && [ "$line" = line ]; do sleep 0.1; done
    exit 2
"#;

pub(crate) fn stories() -> Vec<Story> {
    let name = "a host outside is reached while a policy permits it";
    vec![Story::new(name, while_permitted).in_one_mode()]
}

fn while_permitted(world: &World) -> anyhow::Result<()> {
    let _database = database(world)?;
    let ada = world.ada();
    ada.gets_ready()?;
    let said = ada.is_refused(&["consume", "--also", DATABASE], DENIED)?;
    ensure!(said.contains("through teamspace `lab`: no policy allows it"), "{said}");

    permit(world, &[DATABASE, INSIDE])?;
    let consume = ["consume", "shop/ledger", "--also", DATABASE, "--also", INSIDE];
    let said = ada.fairlead(&consume)?.ok()?;
    ensure!(said.stderr.contains("1 service and 2 hosts outside"), "{said}");
    let mut speaks = ada.command("bash");
    speaks.args(["-c", CONVERSATION]);
    let conversation = begin(speaks)?;
    let trace = ada.reads(&["trace", DATABASE])?;
    let hops = trace["hops"].as_array().context("hops")?;
    ensure!(hops.len() == 5 && hops.iter().all(|hop| hop["state"] == "passed"), "{trace}");
    let said = ada.is_refused(&["trace", INSIDE], DENIED)?;
    ensure!(said.contains("is at 10.96.0.1: that is default/kubernetes"), "{said}");

    permit(world, &[])?;
    let said = conversation.ends()?;
    ensure!(said.code == Some(2) && said.stdout.contains("outside"), "it goes on: {said}");
    within(PATIENCE, "the name leads nowhere any more", || {
        let mut asks = ada.command("getent");
        asks.args(["hosts", "db.outside.test"]);
        ensure!(begin(asks)?.ends()?.code != Some(0), "it has an address");
        Ok(())
    })?;
    ada.fairlead(&["stop"])?.ok()?;
    Ok(())
}

/// Starts a ledger where the cluster reaches it and the laptop does not.
fn database(world: &World) -> anyhow::Result<Running> {
    let mut ledger = world.lab().exec(Host::Hub, world.laptop_program("shop"));
    let listen = format!("{}:7000", Host::Hub.address());
    ledger.args(["ledger", "--listen", &listen, "--name", "outside"]);
    begin(ledger)
}

/// Lets developers reach these hosts through the lab's cluster, and no others.
fn permit(world: &World, hosts: &[&str]) -> anyhow::Result<()> {
    let policy = |host: &&str| {
        let text = format!(
            r#"permit(principal in Role::"developer", action == Action::"reachExternal", resource == Host::"lab/{host}");"#
        );
        json!({"id": format!("reach-{}", host.replace(['.', ':'], "-")), "text": text})
    };
    let policies: Vec<_> = hosts.iter().map(policy).collect();
    let body = json!({ "policies": policies });
    let published = world.olga().call("PUT", "/api/v1/policies", Some(&body))?;
    ensure!(published.status == 200, "{}: {}", published.status, published.body);
    Ok(())
}
